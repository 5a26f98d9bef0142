"""The training loop and the runs on it: fine-tuning, pretraining, distillation.

An optimiser or a schedule goes into `optimisers`, what every run does into `loop`.
"""

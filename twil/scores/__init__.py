"""How good answers are, and how sure that is: metrics, intervals, tests between models. A metric goes into `metrics`."""

"""The service of `twil serve` on a Ray cluster: the same routes and answers, replicas by load.

    pip install -c constraints.txt 'ray[serve]'   # beside twil[cpu,serve], on every machine
    serve run deploy.ray_serve:app models="sentiment emotion" max_replicas=8

Models are what `twil serve` takes, also NAME=MODEL; folders must be where all machines see them. Each replica
has one CPU and a copy of each model, and computes what comes to it within a moment together.
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application

from twil.bundle.names import name_models
from twil.serving.app import ServiceOptions, make_app

CPUS = 1
WAITING = 64
"""Requests that a replica has under way before another one is started."""


def app(arguments: dict[str, Any]) -> Application:
    """Build the application from ``models``, ``min_replicas`` (1), ``max_replicas`` (4) and ``api_key``."""
    named = {name: str(path) for name, path in name_models(str(arguments["models"]).split()).items()}
    options = ServiceOptions(api_key=str(arguments.get("api_key", "")), engine={"threads": CPUS})
    scaling = {
        "min_replicas": int(arguments.get("min_replicas", 1)),
        "max_replicas": int(arguments.get("max_replicas", 4)),
        "target_ongoing_requests": WAITING,
    }

    @serve.deployment(
        name="twil",
        ray_actor_options={"num_cpus": CPUS},
        autoscaling_config=scaling,
        max_ongoing_requests=2 * WAITING,
    )
    @serve.ingress(lambda: make_app(named, options))
    class Replica:
        pass

    return Replica.bind()

"""The machines of the connected cluster: those that are up, and those that its autoscaler may still add."""

import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune.cluster.private_ray import has_autoscaler, resources_of_this_machine

__all__ = ["Machines", "machines", "this_machine"]

Resources = Mapping[str, float]  # such as {"CPU": 8, "GPU": 1}


@dataclass(frozen=True)
class Machines:
    """What there is to run trials on.

    Args:
        up: resources of each live node.
        to_come: resources of each node that the autoscaler may still add.
        grows_unseen: whether there is an autoscaler whose configuration cannot be seen from here.
    """

    up: Sequence[Resources]
    to_come: Sequence[Resources] = ()
    grows_unseen: bool = False

    @property
    def all(self) -> list[Resources]:
        """Those that are up and those to come."""
        return [*self.up, *self.to_come]


def machines() -> Machines:
    """Return the machines of the connected cluster."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    up = [node["Resources"] for node in alive]
    config = _autoscaling_config(ray.get_runtime_context().gcs_address)
    if config is None:
        return Machines(up, grows_unseen=has_autoscaler())
    return Machines(up, _to_come(config, alive))


def this_machine() -> Machines:
    """Return this machine as Ray would take it, if it were started here; it is not."""
    return Machines([resources_of_this_machine()])


def _to_come(config: Mapping[str, Any], alive: list[dict[str, Any]]) -> list[Resources]:
    """Return the resources of each node that an autoscaler with this configuration may still add.

    Of machines whose resources the configuration does not know, such as one's own, nothing is said: they count once
    they are up.
    """
    workers = [node for node in alive if "node:__internal_head__" not in node["Resources"]]
    of_type = Counter(node.get("Labels", {}).get("ray.io/node-group") for node in workers)
    left = config.get("max_workers", 0) - len(workers)
    found: list[Resources] = []
    for name, node_type in config.get("available_node_types", {}).items():
        if name == config.get("head_node_type") and not node_type.get("max_workers"):
            continue
        resources = node_type.get("resources") or {}
        count = node_type.get("max_workers", config.get("max_workers", 0)) - of_type[name]
        if resources:
            found += [resources] * max(0, min(count, left - len(found)))
    return found


def _autoscaling_config(gcs_address: str) -> dict[str, Any] | None:
    """Return the configuration of the autoscaler that runs for a cluster on this machine, its head; or None."""
    for command_line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError, ValueError):
            words = command_line.read_bytes().decode().split("\0")
            if f"--gcs-address={gcs_address}" in words:
                path = next((w.partition("=")[2] for w in words if w.startswith("--autoscaling-config=")), None)
                if path:
                    config = json.loads(Path(path).expanduser().read_text())
                    return config if isinstance(config, dict) else None
    return None

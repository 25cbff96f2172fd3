"""The one module that imports what Ray does not call an interface of its own, so that a new Ray breaks one file only.

- `ray._private.ray_constants.ENABLE_RAY_CLUSTER`, for :func:`private_to_this_user`: Ray reads the switch that has it
  listen on loopback when it is imported, and that is too early. Without it a search's Ray listens on all interfaces.
- `ray._raylet.Config` and `AuthenticationTokenLoader`, for the same: they have read mode and token before. Without them
  Ray asks nobody for the token of this search, or cannot use its own.
- `ray._private.node.Node`, for :func:`without_bystanders`. Without it a search on this machine starts three programs
  more that it has no use for, and takes twice as long until its first trial.
- `ray.autoscaler.v2.utils.is_autoscaler_v2`, for :func:`has_autoscaler`. Without it a search on a cluster that grows
  plans for the nodes that are up, and gives up where none of them has room for a trial.
- `ray._private.resource_and_label_spec.ResourceAndLabelSpec`, for :func:`resources_of_this_machine`. Without it a plan
  cannot say how many trials will run at a time, unless it starts Ray.
- `ray.tune.result.EXPR_ERROR_FILE`, for :func:`error_file_name`. Without it the record of a lost worker does not say
  why it was lost.

Beside imports: :class:`IdleWorkers` tells the loop of Ray Tune how many idle workers to keep. Without it all but one of
the workers of a stage end with it, and the next stage starts others: some seconds each, for what they import and load.
`starting_process_groups` relies on Ray's running Python code in its children before they become other
programs. Without that a signal to the program's process group ends Ray too, and the program waits for it.

Why there is a Ray that others cannot reach: by default Ray's processes listen on all interfaces, and whoever reaches
them runs code as their owner. Here they listen on loopback alone, and answer nobody who does not know a token that only
this user can read.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "IdleWorkers",
    "error_file_name",
    "has_autoscaler",
    "private_to_this_user",
    "resources_of_this_machine",
    "starting_process_groups",
    "without_bystanders",
]

_TOKEN_FILE = "token"  # noqa: S105  a file's name
# Ray's name for a switch that has it use loopback as the node's address, which it does by default on macOS and Windows.
# Each of its servers binds to that address alone if it is 127.0.0.1; `_node_ip_address` is no way to set it, since
# Ray replaces loopback there by an address that other machines reach.
_LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@contextlib.contextmanager
def private_to_this_user(folder: Path) -> Iterator[None]:
    """Have a Ray that is started in this context listen on loopback alone and ask for a token of its own.

    Args:
        folder: for the token; one that only this user may enter. Ray's own is none: it opens that to everybody.
    """
    from ray._private import ray_constants

    token = folder / _TOKEN_FILE
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environment = {
        _LOOPBACK_SWITCH: "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_AUTH_TOKEN": None,  # would come before the path
    }
    allows_clusters = ray_constants.ENABLE_RAY_CLUSTER
    try:
        with _environment(environment):
            ray_constants.ENABLE_RAY_CLUSTER = False  # the switch itself was read when Ray was imported
            _read_authentication_again()
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = allows_clusters
        _read_authentication_again()


@contextlib.contextmanager
def without_bystanders() -> Iterator[None]:
    """Start Ray in this context without its dashboard, its autoscaler and its reader of logs.

    `include_dashboard=False` starts the dashboard's program all the same, and there is no such argument for the others.
    Nothing on one machine asks them; each is a Python process that imports Ray: 3 of 5 s of CPU time of a start.
    """
    from ray._private.node import Node

    def start_nothing(node: Node) -> None:
        pass

    def start_no_dashboard(node: Node, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        node._webui_url = ""

    replaced = {
        "start_monitor": start_nothing,
        "start_log_monitor": start_nothing,
        "start_api_server": start_no_dashboard,
    }
    genuine = {name: getattr(Node, name) for name in replaced}
    try:
        for name, method in replaced.items():
            setattr(Node, name, method)
        yield
    finally:
        for name, method in genuine.items():
            setattr(Node, name, method)


_starting_process_groups = False


@contextlib.contextmanager
def starting_process_groups() -> Iterator[None]:
    """Start Ray's processes in this context in process groups of their own.

    A signal to this program's whole group, as timeout(1) and job managers send it, would end them as well, and this
    program would then wait a minute for a Ray that no longer answers instead of ending as it should.
    """
    global _starting_process_groups
    _starting_process_groups = True
    try:
        yield
    finally:
        _starting_process_groups = False


def _leave_process_group() -> None:
    if _starting_process_groups:
        os.setpgid(0, 0)


# Python calls it in a child that runs Python code before it becomes another program, as Ray's do.
os.register_at_fork(after_in_child=_leave_process_group)


class IdleWorkers:
    """Workers of Ray Tune whose trials are over, kept for trials that are still to come.

    By itself Ray keeps as many as there are trials that wait; while a stage of a run ends, none does.

    Args:
        count: how many are kept at most.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: tuple[Any, Any] | None = None  # Ray's cache of workers, and the resources of one

    def keep(self, tune_controller: Any, trial: Any) -> None:
        """Keep workers with the resources of a trial, from its start on.

        Args:
            tune_controller: as Ray gives it to a scheduler.
            trial: of Ray's.
        """
        if self._kept is None:
            self._kept = tune_controller._tune_controller._actor_cache, trial.placement_group_factory
            cache, resources = self._kept
            cache.increase_max(resources, by=self._count)

    def let_go(self) -> None:
        """Keep none any more."""
        if self._kept is not None and self._count:
            cache, resources = self._kept
            cache.decrease_max(resources, by=self._count)
            self._count = 0


@contextlib.contextmanager
def _environment(changes: dict[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    _set_environment(changes)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _read_authentication_again() -> None:
    """Have Ray forget what it read of mode and token, the mode first: a token that is gone is then not missed."""
    from ray import _raylet

    _raylet.Config.initialize("")  # type: ignore[attr-defined]
    _raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]


def has_autoscaler() -> bool:
    """Return whether the connected cluster has an autoscaler of the second generation, as on Kubernetes."""
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    return bool(is_autoscaler_v2())


def resources_of_this_machine() -> dict[str, float]:
    """Return what a Ray that is started on this machine would have, such as {"CPU": 8, "GPU": 1}."""
    from ray._private.resource_and_label_spec import ResourceAndLabelSpec

    resources = ResourceAndLabelSpec().resolve(is_head=True).to_resource_dict()
    return {name: float(resources[name]) for name in ("CPU", "GPU") if name in resources}


def error_file_name() -> str:
    """Return the name of the file in which Ray says why a trial's worker was lost, in the trial's folder."""
    from ray.tune.result import EXPR_ERROR_FILE

    return str(EXPR_ERROR_FILE)

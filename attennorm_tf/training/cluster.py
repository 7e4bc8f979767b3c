"""Which processes train together, from TF_CONFIG or SLURM; what is wrong with it is said before TensorFlow waits."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

_EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
_NO_LIMIT = 10**6
_SLURM_PORT = 8888


class Cluster(NamedTuple):
    """The workers of a job.

    Attributes:
        addresses: "host:port" of each; the first is the chief's.
        own: which of them is this process.
    """

    addresses: list[str]
    own: int

    @property
    def address(self) -> str:
        """This process' own."""
        return self.addresses[self.own]


def names_a_cluster(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether TF_CONFIG is set to more than nothing."""
    return environment.get("TF_CONFIG", "").strip() not in ("", "{}")


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """The cluster that TF_CONFIG describes, or, without it, the SLURM job step.

    A chief beside the workers, as some schedulers name the first of them, counts as the first worker.

    Raises:
        ValueError: neither is there, or what is there cannot be used.
    """
    if names_a_cluster(environment):
        return _from_tf_config(environment["TF_CONFIG"])
    if "SLURM_PROCID" in environment:
        return _from_slurm(environment)
    raise ValueError(
        "training.strategy='multi_worker' needs TF_CONFIG, or to be started by srun in a SLURM allocation; found "
        f"neither. TF_CONFIG of the first of two workers: {_EXAMPLE}"
    )


def check_own_address(cluster: Cluster) -> None:
    """Checks that this process can listen at its own address; TensorFlow itself would crash or wait.

    Raises:
        ValueError: the address is another machine's, or taken.
    """
    host, _, port = cluster.address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(
            f"TF_CONFIG: the own address {cluster.address} (worker {cluster.own}) has a host that cannot be found "
            f"({error.strerror or error})."
        ) from error
    failures = [_try_to_listen(family, address) for family, _, _, _, address in found]
    if errno.EADDRINUSE not in failures and all(number == errno.EADDRNOTAVAIL for number in failures):
        raise ValueError(
            f"TF_CONFIG: the own address {cluster.address} (worker {cluster.own}) is not one of this machine, "
            f"{socket.gethostname()}; each worker's task index must be that of its own address in cluster.worker."
        )
    # TensorFlow listens on all addresses of the machine.
    taken = [*failures, _try_to_listen(socket.AF_INET, ("", int(port)))]
    if errno.EADDRINUSE in taken:
        raise ValueError(
            f"TF_CONFIG: port {port} of the own address {cluster.address} (worker {cluster.own}) is already in use: "
            "by a worker that still runs, by one with the same task index, or by another program. End it, or choose "
            "another port in every worker's TF_CONFIG."
        )


def _try_to_listen(family: int, address: Any) -> int:
    """0, or the number of the error."""
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are just closing do not count
        try:
            attempt.bind(address)
            attempt.listen(1)
        except OSError as error:
            return error.errno or -1
    return 0


def _from_tf_config(text: str) -> Cluster:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ValueError(f"TF_CONFIG is not JSON ({error}); got {text!r}. An example: {_EXAMPLE}") from error
    cluster = config.get("cluster") if isinstance(config, dict) else None
    task = config.get("task") if isinstance(config, dict) else None
    if not isinstance(cluster, dict) or not isinstance(task, dict) or not cluster or not task:
        lacking = "task" if isinstance(cluster, dict) and cluster else "cluster"
        raise ValueError(f"TF_CONFIG lacks {lacking!r}; got {text!r}. An example: {_EXAMPLE}")
    others = sorted(set(cluster) - {"worker", "chief"})
    if others:
        raise ValueError(
            f"TF_CONFIG: cluster has tasks of type {others[0]!r}; supported are 'worker', and one 'chief', which "
            "counts as the first worker. There are no parameter servers; evaluation is a command of its own."
        )
    for job, addresses in cluster.items():
        if not isinstance(addresses, list) or not all(isinstance(address, str) for address in addresses):
            raise ValueError(f"TF_CONFIG: cluster.{job} must be a list of 'host:port'; got {addresses!r}.")
    chiefs, workers = cluster.get("chief", []), cluster.get("worker", [])
    if len(chiefs) > 1:
        raise ValueError(f"TF_CONFIG: cluster.chief must have one address; got {chiefs}.")
    return _checked([*chiefs, *workers], _own_index(task, chiefs, workers))


def _own_index(task: dict[str, Any], chiefs: list[str], workers: list[str]) -> int:
    """This process' place among chief and workers."""
    kind, index = task.get("type"), task.get("index", 0)
    jobs = {"chief": chiefs, "worker": workers}
    if kind not in jobs or not jobs[kind]:
        known = [name for name, addresses in jobs.items() if addresses]
        raise ValueError(f"TF_CONFIG: task.type must be one of the cluster's, {known}; got {kind!r}.")
    if isinstance(index, str) and index.isdecimal():
        index = int(index)
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(jobs[kind]):
        raise ValueError(
            f"TF_CONFIG: task.index must be in [0, {len(jobs[kind])}), the {kind}s of the cluster being {jobs[kind]}; "
            f"got {index!r}."
        )
    return index if kind == "chief" else len(chiefs) + index


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    # What TensorFlow says of GPUs is not asked: its count fails where there are none, and where SLURM itself has given
    # each task its own.
    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=_SLURM_PORT, gpus_per_node=_NO_LIMIT, gpus_per_task=1, auto_set_gpu=False
        )
        addresses = resolver.cluster_spec().as_dict()["worker"]
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"SLURM: the job step's workers cannot be found ({error}); start them by srun.") from error
    index = resolver.task_id
    # TensorFlow sorts the hosts as text, SLURM numbers the tasks in its own order: n9 before n10.
    if "SLURMD_NODENAME" in environment and "SLURM_LOCALID" in environment:
        own = f"{environment['SLURMD_NODENAME']}:{_SLURM_PORT + int(environment['SLURM_LOCALID'])}"
        index = addresses.index(own) if own in addresses else index
    return _checked(addresses, int(index))


def _checked(addresses: list[str], index: int) -> Cluster:
    for place, address in enumerate(addresses):
        match = re.fullmatch(r"(.+):(\d{1,5})", address)
        if not match or not 0 < int(match.group(2)) < 2**16:
            who = "the own address" if place == index else f"the address of worker {place}"
            raise ValueError(f"TF_CONFIG: {who} must be 'host:port' with a port in [1, 65535]; got {address!r}.")
    twice = sorted({address for address in addresses if addresses.count(address) > 1})
    if twice:
        raise ValueError(
            f"TF_CONFIG: every worker needs an address of its own; {twice[0]} stands there more than once."
        )
    return Cluster(addresses, index)

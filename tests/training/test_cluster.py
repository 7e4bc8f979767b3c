"""What stands in TF_CONFIG or comes from SLURM, and every way in which it can be wrong."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

import pytest

from attennorm_tf.training import make_strategy
from attennorm_tf.training.cluster import Cluster, check_own_address, read_cluster
from tests.cluster_jobs import free_addresses

TWO = {"worker": ["a:1", "b:2"]}


def environment(cluster: Any = None, task: Any = None) -> dict[str, str]:
    config = {"cluster": TWO if cluster is None else cluster, "task": {"type": "worker", "index": 0}}
    return {"TF_CONFIG": json.dumps({**config, "task": task or config["task"]})}


def test_workers_and_a_chief() -> None:
    assert read_cluster(environment()) == Cluster(["a:1", "b:2"], 0)
    assert read_cluster(environment(task={"type": "worker", "index": "1"})).address == "b:2"
    assert read_cluster(environment({"worker": ["a:1"]})) == Cluster(["a:1"], 0)
    with_chief = {"chief": ["c:3"], "worker": ["a:1", "b:2"]}
    assert read_cluster(environment(with_chief)) == Cluster(["c:3", "a:1", "b:2"], 1)
    assert read_cluster(environment(with_chief, {"type": "chief", "index": 0})).address == "c:3"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{cluster:", "TF_CONFIG is not JSON (Expecting property name"),
        ("[]", "TF_CONFIG lacks 'cluster'; got '[]'"),
        (json.dumps({"cluster": TWO}), "TF_CONFIG lacks 'task'"),
        (json.dumps({"task": {"type": "worker", "index": 0}}), "TF_CONFIG lacks 'cluster'"),
        (environment({"worker": "a:1"})["TF_CONFIG"], "cluster.worker must be a list of 'host:port'; got 'a:1'"),
        (environment({"worker": ["a:1"], "ps": ["b:2"]})["TF_CONFIG"],
         "tasks of type 'ps'; supported are 'worker', and one 'chief'"),
        (environment({"worker": ["a:1"], "evaluator": ["b:2"]})["TF_CONFIG"], "tasks of type 'evaluator'"),
        (environment({"chief": ["a:1", "b:2"]})["TF_CONFIG"], "cluster.chief must have one address"),
        (environment(task={"type": "chief", "index": 0})["TF_CONFIG"],
         "task.type must be one of the cluster's, ['worker']; got 'chief'"),
        (environment(task={"type": "worker", "index": 2})["TF_CONFIG"],
         "task.index must be in [0, 2), the workers of the cluster being ['a:1', 'b:2']; got 2"),
        (environment(task={"type": "worker", "index": -1})["TF_CONFIG"], "got -1"),
        (environment({"worker": ["a", "b:2"]})["TF_CONFIG"], "the own address must be 'host:port'"),
        (environment({"worker": ["a:1", "b:x"]})["TF_CONFIG"], "the address of worker 1 must be 'host:port'"),
        (environment({"worker": ["a:1", "b:65536"]})["TF_CONFIG"], "got 'b:65536'"),
        (environment({"worker": ["a:1", "a:1"]})["TF_CONFIG"], "a:1 stands there more than once"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_tf_config_is_said(config: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_cluster({"TF_CONFIG": config})


def test_without_any_cluster_the_error_shows_one() -> None:
    with pytest.raises(ValueError, match=r"needs TF_CONFIG, or to be started by srun.*found neither.*host1:2222"):
        read_cluster({})


def test_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow sorts the hosts as text, n10 before n9; SLURM does not."""
    job = {
        "STEP_NUM_TASKS": "4",
        "STEP_NODELIST": "n[9-10]",
        "STEP_TASKS_PER_NODE": "2(x2)",
        "PROCID": "1",
        "LOCALID": "1",
    }
    variables = {"SLURMD_NODENAME": "n9", **{f"SLURM_{name}": value for name, value in job.items()}}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    addresses = ["n10:8888", "n10:8889", "n9:8888", "n9:8889"]
    assert read_cluster(variables) == Cluster(addresses, 3)
    assert read_cluster({**variables, "SLURMD_NODENAME": "n10", "SLURM_LOCALID": "0"}).own == 0
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    with pytest.raises(ValueError, match=r"SLURM: the job step's workers cannot be found \(SLURM_STEP_NODELIST not"):
        read_cluster(variables)


def test_a_port_in_use_is_named() -> None:
    address, other = free_addresses(2)
    check_own_address(Cluster([address, other], 0))
    with socket.create_server(("127.0.0.1", int(address.split(":")[1]))):
        with pytest.raises(
            ValueError, match=f"port {address.split(':')[1]} of the own address {address}.*already in use"
        ):
            check_own_address(Cluster([address, other], 0))
        check_own_address(Cluster([address, other], 1))


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(ValueError, match=r"own address 192\.0\.2\.1:2222 \(worker 0\) is not one of this machine"):
        check_own_address(Cluster(["192.0.2.1:2222"], 0))  # a network of documentation, RFC 5737
    with pytest.raises(ValueError, match=r"nowhere\.invalid:2222 \(worker 0\) has a host that cannot be found"):
        check_own_address(Cluster(["nowhere.invalid:2222"], 0))


def test_a_machine_without_a_tpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TPU_NAME", raising=False)
    with pytest.raises(ValueError, match=r"training.strategy='tpu': this machine has no TPU that TensorFlow can reach"):
        make_strategy("tpu")

"""Commands run by the server of processes behave as ones started afresh."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import ROOT, Process, run_module, start_module


def wait_for(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


# What a process is and prints, and how it ends: each once by the server and once started afresh.
FACTS = """
import os, signal, sys, threading
import __main__
print(__name__, __main__.__name__, sys.argv, os.getcwd(), sys.path[0], os.environ["MINE"], "GONE" in os.environ)
print([name for name in sys.modules if name.split(".")[0] in ("attennorm_tf", "train", "tests", "pytest")])
print([str(signal.getsignal(number)).split(" at ")[0] for number in (2, 15, 1, 17)], signal.pthread_sigmask(0, []))
print(sorted(int(number) for number in os.listdir("/proc/self/fd"))[:3], sys.stdin.read())
print(os.getpid() == os.getpgrp(), threading.active_count(), sys.stdout.isatty(), sys.stdout.line_buffering)
sys.stderr.write("to the other stream, é\\r\\n")
"""


@pytest.mark.parametrize("kind", ["-c", "module", "script"])
def test_as_started_afresh(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("GONE", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "facts.py").write_text(FACTS)
    target, where = {
        "-c": (("-c", FACTS), "own"), "module": (("facts",), "own"), "script": (("own/facts.py",), "."),
    }[kind]  # fmt: skip
    done = run_module(*target, "--flag", "a b", env={"MINE": "é", "GONE": None}, cwd=tmp_path / where)
    environment = {name: value for name, value in os.environ.items() if name != "GONE"}
    afresh = subprocess.run(
        [sys.executable, *(["-m"] if kind == "module" else []), *target, "--flag", "a b"],
        cwd=tmp_path / where, env={**environment, "MINE": "é"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a background job of a shell ignores
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (afresh.returncode, afresh.stdout, afresh.stderr)
    assert done.returncode == 0, done.stderr
    assert "'--flag', 'a b'" in done.stdout


ENDINGS = {
    "raise SystemExit(7)": (7, ""),
    "raise SystemExit('words')": (1, "words\n"),
    "def fails():\n    raise KeyError('key')\nfails()": (1, "KeyError: 'key'\n"),
    "import os; os._exit(9)": (9, ""),
    "import os, signal; os.kill(os.getpid(), signal.SIGTERM)": (-15, ""),
    "raise KeyboardInterrupt": (-2, "KeyboardInterrupt\n"),
    "import atexit; atexit.register(print, 'last'); print('first')": (0, ""),
    "import threading, time\n"
    "def late():\n    time.sleep(0.1)\n    print('late')\n"
    "threading.Thread(target=late).start()": (0, ""),
    "def broken(:": (1, "SyntaxError"),
}


@pytest.mark.parametrize("code", ENDINGS, ids=range(len(ENDINGS)))
def test_it_ends_as_afresh(code):
    done = run_module("-c", code)
    afresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected, words = ENDINGS[code]
    assert done.returncode == afresh.returncode == expected
    assert done.stdout == afresh.stdout
    assert done.stderr.splitlines()[-1:] == afresh.stderr.splitlines()[-1:]
    assert words in done.stderr


def test_a_console_script_and_what_is_not_there(tmp_path):
    (tmp_path / "package.py").write_text("import sys\n\ndef main():\n    print(sys.argv[1:], __name__)\n    return 5\n")
    done = run_module("package:main", "--x", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (5, "['--x'] package\n"), done.stderr
    done = run_module("no_such_module", cwd=tmp_path)
    assert done.returncode == 1
    assert "No module named no_such_module" in done.stderr
    with pytest.raises(ValueError, match="env: KERAS_BACKEND is read before a command of the server starts"):
        run_module("package", env={"KERAS_BACKEND": "jax"})


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -2), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_signals_reach_it_even_where_the_tests_ignore_them(number, code):
    if number != signal.SIGKILL:
        before = signal.signal(number, signal.SIG_IGN)
    try:
        with start_module("-c", "import time; print('on', flush=True); time.sleep(60); print('off')") as process:
            wait_for(lambda: process.stdout == "on\n")
            assert process.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.01)
            process.send_signal(number)
            assert process.wait(20) == process.poll() == process.returncode == code
            process.send_signal(number)  # nothing, it has ended
    finally:
        if number != signal.SIGKILL:
            signal.signal(number, before)
    assert process.stdout == "on\n"
    assert ("KeyboardInterrupt" in process.stderr) == (number == signal.SIGINT)


def test_two_at_once_with_their_own_environment(tmp_path):
    """Each waits for the other's file."""
    code = (
        "import os, pathlib, time\n"
        "pathlib.Path(os.environ['MINE']).write_text(os.environ['MINE'])\n"
        "while not pathlib.Path(os.environ['OTHERS']).exists(): time.sleep(0.01)\n"
        "print(os.environ['MINE'])\n"
    )
    with start_module("-c", code, env={"MINE": "a", "OTHERS": "b"}, cwd=tmp_path) as first:
        second = start_module("-c", code, env={"MINE": "b", "OTHERS": "a"}, cwd=tmp_path)
        assert (first.wait(20), second.wait(20)) == (0, 0)
        assert (first.stdout, second.stdout) == ("a\n", "b\n")
        assert first.pid != second.pid


def test_no_process_draws_the_numbers_of_another():
    code = "import random, numpy; print(random.random(), numpy.random.rand())"
    drawn = [run_module("-c", code).stdout.split() for _ in range(2)]
    assert len({number for numbers in drawn for number in numbers}) == 4


FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(float(sys.argv[1]))
child.returncode = 0  # left alone: no warning of it
"""


def test_a_command_out_of_time_is_killed_with_all_it_started():
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        run_module("-c", FAMILY, "60", timeout=2)
    assert caught.value.timeout == 2
    child = int(caught.value.output)
    wait_for(lambda: not runs(child))


def test_what_a_command_leaves_behind_is_killed():
    done = run_module("-c", FAMILY, "0")
    assert done.returncode == 0
    wait_for(lambda: not runs(int(done.stdout)))


# A test process in miniature; TensorFlow is not what this is about.
TESTS = """
import functools, os, sys, time
from tests import processes
processes._Server = functools.partial(processes._Server, preloaded=())
command = processes.start_module("-c", "import os, time; print(os.getppid(), flush=True); time.sleep(60)")
while not command.stdout: time.sleep(0.01)
print(f"{command.pid} {command.stdout}", end="", flush=True)
"""


@pytest.mark.parametrize("end", ["time.sleep(60)", "", "os._exit(0)"], ids=["killed", "done", "without clean-up"])
def test_the_server_ends_with_the_tests(end, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    tests = subprocess.Popen(
        [sys.executable, "-c", TESTS + end], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    with tests:
        command, server = map(int, tests.stdout.readline().split())
        if "sleep" in end:
            assert runs(command)
            assert runs(server)
            tests.kill()
    assert tests.returncode == (-9 if "sleep" in end else 0)
    wait_for(lambda: not runs(command) and not runs(server))
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_died_says_so():
    code = TESTS + "os.kill(int(command.stdout), 9); command.wait(20)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    os.kill(int(done.stdout.split()[0]), signal.SIGKILL)  # the command, which nobody watched any more
    assert done.returncode == 1
    assert "RuntimeError: the server of processes has died: exit code -9" in done.stderr


DEVICES = """
import json, os
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
assert tf.config.get_logical_device_configuration(cpu) is None
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
assert tf.config.list_physical_devices("GPU") == []
print(len(tf.config.list_logical_devices("CPU")), float(tf.function(tf.reduce_sum)(tf.ones([3, 5]))))
print(tf.distribute.cluster_resolver.TFConfigClusterResolver().task_id)
"""


def test_each_child_has_its_own_tensorflow():
    task = '{"cluster": {"worker": ["localhost:1", "localhost:2"]}, "task": {"type": "worker", "index": 1}}'
    for _ in range(2):
        done = run_module("-c", DEVICES, env={"TF_CONFIG": task, "CUDA_VISIBLE_DEVICES": "-1"})
        assert (done.returncode, done.stdout) == (0, "3 15.0\n1\n"), done.stderr


def test_descriptors_are_closed():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        process: Process = start_module("-c", "pass")
        assert process.wait(20) == 0
        del process
    assert len(os.listdir("/proc/self/fd")) == before

"""Two processes train as one does, bit for bit; a run of one goes on with two."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from nlpkit.training.world import PairwiseSum, World

SMALL = [
    *("-s", "model.width=16", "-s", "model.depth=1", "-s", "model.heads=2", "-s", "data.context=16"),
    *("-s", "data.batch_size=8", "-s", "data.micro_batch=2", "-s", "train.eval_every=4", "--device", "cpu"),
    *("-s", "train.checkpoint_every=4", "-s", "data.vocab_size=300", "--documents", "line", "-j", "1"),
]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def command(text, out, steps, processes):
    words = ["-m", "nlpkit", "pretrain", str(text), "-o", str(out), "--steps", str(steps), *SMALL]
    if processes == 1:
        return [sys.executable, *words]
    rendezvous = [
        "--nproc_per_node",
        str(processes),
        "--master_addr",
        "127.0.0.1",
        "--master_port",
        free_port(),
    ]
    return [sys.executable, "-m", "torch.distributed.run", *rendezvous, *words]


def run(words, **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"line {i} says {i * i} and the rest of it is {i % 7}\n" for i in range(400)))
    return path


def test_one_or_two_processes_make_the_same_bits(text, tmp_path):
    for processes in (1, 2):
        done = run(command(text, tmp_path / str(processes), 8, processes))
        assert done.returncode == 0, done.stderr
    one, two = ((tmp_path / n / "model/model.safetensors").read_bytes() for n in "12")
    assert one == two
    assert done.stderr.count("8 steps") == 2  # said once, by the first process


def test_a_killed_process_and_another_number_of_them(text, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(command(text, whole, 40, 1)).returncode == 0
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        command(text, broken, 40, 2), env=environment, stdout=-3, stderr=-3, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(broken.glob("checkpoints/0*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    if not (broken / "MANIFEST.json").exists():
        done = run(command(text, broken, 40, 1))
        assert done.returncode == 0, done.stderr
    assert (whole / "model/model.safetensors").read_bytes() == (
        broken / "model/model.safetensors"
    ).read_bytes()


def test_sums_are_a_tree_whoever_adds_the_leaves():
    torch.manual_seed(0)
    leaves = [torch.randn(50) * 10.0**i for i in range(8)]
    tree = PairwiseSum()
    for leaf in leaves:
        tree.add([leaf.clone()])
    a, b, c, d, e, f, g, h = leaves
    assert torch.equal(tree.total()[0], ((a + b) + (c + d)) + ((e + f) + (g + h)))
    halves = []
    for rank in range(2):
        part = PairwiseSum()
        for i in World(rank, 2).mine(8):
            part.add([leaves[i].clone()])
        halves.append(part.total()[0])
    assert torch.equal(halves[0] + halves[1], ((a + b) + (c + d)) + ((e + f) + (g + h)))
    odd = PairwiseSum()
    for leaf in leaves[:3]:
        odd.add([leaf.clone()])
    assert torch.equal(odd.total()[0], (a + b) + c)

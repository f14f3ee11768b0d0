import pytest

from qvggt.machine import hardware
from qvggt.machine.hardware import Memory, read_cpu, read_gpus, read_memory


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Return the folder of control groups, in which this process is in ``/user/job``."""
    (tmp_path / "own").write_text("0::/user/job\n")
    monkeypatch.setattr(hardware, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(hardware, "_OWN_CGROUP", tmp_path / "own")
    (tmp_path / "groups" / "user" / "job").mkdir(parents=True)
    return tmp_path / "groups"


def write_group(folder, limit, used, cached=0):
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


def test_read_cpu():
    cpu = read_cpu()
    assert cpu.name
    assert cpu.cores >= 1
    assert cpu.threads >= 1
    assert set(cpu.features) <= set(hardware.FEATURES)


def test_read_memory__without_a_limit(groups):
    memory = read_memory()
    assert 0 < memory.free_bytes <= memory.total_bytes
    assert (memory.limit_bytes, memory.usable_bytes) == (None, memory.free_bytes)


def test_read_memory__the_smallest_limit_of_all_groups_above(groups):
    write_group(groups, "max", 7_000_000)
    write_group(groups / "user", 3_000_000, 1_500_000, cached=500_000)
    write_group(groups / "user" / "job", 5_000_000, 100_000)
    memory = read_memory()
    assert (memory.limit_bytes, memory.limit_free_bytes, memory.usable_bytes) == (3_000_000, 2_000_000, 2_000_000)


def test_read_memory__a_limit_above_the_memory_is_none(groups):
    write_group(groups / "user" / "job", 1 << 59, 100)
    assert read_memory().limit_bytes is None


def test_read_memory__version_1(groups, tmp_path):
    (tmp_path / "own").write_text("5:cpu,cpuacct:/x\n4:memory:/user/job\n")
    job = groups / "memory" / "user" / "job"
    job.mkdir(parents=True)
    (job / "memory.limit_in_bytes").write_text("4000000")
    (job / "memory.usage_in_bytes").write_text("1000000")
    (job / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 250000\n")
    assert read_memory().limit_free_bytes in (3_250_000, 3_000_001)


def test_usable_bytes__is_what_both_leave():
    assert Memory(10, 6, 8, 7).usable_bytes == 6
    assert Memory(10, 6, 8, 2).usable_bytes == 2


def test_read_gpus__says_why_there_is_none(monkeypatch):
    monkeypatch.setattr(hardware.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(hardware.torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(hardware.torch.version, "cuda", None)
    monkeypatch.setattr(hardware.torch.version, "hip", None)
    monkeypatch.setattr(hardware.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert read_gpus() == ((), "this build of torch is for the CPU only: install torch with CUDA (pip install torch)")

    def init():
        raise RuntimeError("Found no NVIDIA driver on your system.\nMore")

    monkeypatch.setattr(hardware.torch.version, "cuda", "12.8")
    monkeypatch.setattr(hardware.torch.cuda, "init", init)
    assert read_gpus()[1] == "torch cannot use one: Found no NVIDIA driver on your system."


def test_read_gpus__of_cuda(monkeypatch):
    monkeypatch.setattr(hardware.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(hardware.torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(hardware.torch.cuda, "mem_get_info", lambda index: (6, 8))
    monkeypatch.setattr(hardware.torch.cuda, "get_device_name", lambda index: "A GPU")
    monkeypatch.setattr(hardware.torch.cuda, "get_device_capability", lambda index: (9, 0))
    assert read_gpus() == ((hardware.Gpu("cuda:0", "A GPU", 8, 6, capability="9.0"),), "")

"""Devices that are not there: what compilers and rooflines must know of them."""

from typing import NamedTuple

from jax.experimental import topologies


class Target(NamedTuple):
  """A device. Peaks are the makers' published ones, for dense matrices.

  Attributes:
    name: as people call it.
    flops: FLOP/s by the type of what is multiplied; float32 is TF32 on GPUs, and bfloat16 on
      TPUs, which is what JAX's default precision makes of it.
    bandwidth: of main memory, bytes/s.
    clock: of a TPU's core, Hz, that its compiler's estimates count in; None where it makes none.
    config: XLA's `GpuTargetConfigProto` as text; None for a TPU.
  """

  name: str
  flops: dict[str, float]
  bandwidth: float
  clock: float | None = None
  config: str | None = None

  def peak(self, dtype: str) -> float:
    """FLOP/s where arrays of an HLO type are multiplied."""
    return self.flops['bfloat16' if dtype in ('bf16', 'f16') else 'float32']


def _gpu(name, *, cores, fpus, shared, l2, clock, memory, bandwidth, capability):
  """The numbers that a driver reports of a card (openxla/xla, xla/backends/gpu/target_config)."""
  return f"""
    gpu_device_info {{
      threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
      shared_memory_per_block: 49152 shared_memory_per_core: {shared}
      shared_memory_per_block_optin: {shared - 1024}
      registers_per_core_limit: 65536 registers_per_block_limit: 65536
      block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
      thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
      core_count: {cores} fpus_per_core: {fpus} clock_rate_ghz: {clock}
      memory_bandwidth: {bandwidth} l2_cache_size: {l2} device_memory_size: {memory}
      cuda_compute_capability {{ major: {capability} }}
    }}
    platform_name: "CUDA"
    dnn_version_info {{ major: 9 minor: 10 }}
    runtime_version {{ major: 12 minor: 9 patch: 0 }}
    device_description_str: "{name}"
  """


TARGETS = {
  'h100': Target(
    'H100 SXM 80 GB',
    {'bfloat16': 989e12, 'float32': 494e12},
    3.35e12,
    config=_gpu(
      'NVIDIA H100 80GB HBM3', cores=132, fpus=128, shared=233472, l2=52428800, clock=1.98,
      memory=84942979072, bandwidth=3352320000000, capability=9,
    ),
  ),
  'a100': Target(
    'A100 SXM 80 GB',
    {'bfloat16': 312e12, 'float32': 156e12},
    2.039e12,
    config=_gpu(
      'NVIDIA A100-SXM4-80GB', cores=108, fpus=64, shared=167936, l2=41943040, clock=1.41,
      memory=85100068864, bandwidth=2039040000000, capability=8,
    ),
  ),
  'v5e': Target('TPU v5e', {'bfloat16': 197e12, 'float32': 197e12}, 0.819e12, clock=1.5e9),
}  # fmt: skip


def devices(target: str, count: int) -> list:
  """Devices to compile for, of a machine that need not exist.

  Args:
    target: a key of `TARGETS`.
    count: 1 or 4.

  Returns:
    The devices.

  Raises:
    Exception: the target's compiler is not installed.
  """
  config = TARGETS[target].config
  if config is None:
    topology = topologies.get_topology_desc(f'{target}:2x2', platform='tpu')
  else:
    topology = topologies.get_topology_desc(
      platform='cuda', target_config=config, topology=f'1x1x{count}'
    )
  return topology.devices[:count]

"""What a plan assumes about machines that it cannot measure."""

from dataclasses import dataclass

__all__ = ["ASSUMED", "Assumed"]


@dataclass(frozen=True)
class Assumed:
    """Figures of machines, each of which an option or a measurement replaces.

    Attributes:
        gpu_tflops_bf16: Peak of a GPU in bfloat16, in 10^12 operations a second: NVIDIA's figure for the H100 SXM,
            dense.
        gpu_tflops_tf32: The same in float32 with `train.tf32`.
        gpu_tflops_fp32: The same in float32.
        gpu_reached_bf16: Share of the first peak that training reaches. By `python -m bench gpu`, an H200 and an H100
            had 0.03 to 0.05 with AV-PEA, 0.02 to 0.03 with LAVISH and 0.06 to 0.07 with LoRA beside a ViT-B/16.
        gpu_reached_tf32: The same in float32 with `train.tf32` (0.08 with AV-PEA).
        gpu_reached_fp32: The same in float32 (0.47 to 0.50 with AV-PEA).
        cpu_reached: The same of a CPU whose speed is not measured.
        cpu_flops_per_cycle: Operations of a core in a cycle in float32: two units of 8 numbers (AVX2), each multiplied
            and added.
        utilisation: Share of the peak that training reaches, instead of those above; 0 for these.
        answering: The same for answering; 0 for that of training.
        decode_share: Seconds of one core that decoding takes for a second of video.
        read_mb_per_second: Speed of reading the cache and of writing a checkpoint, in 10^6 bytes a second.
        exchange_mb_per_second: Speed at which processes add up their gradients.
        start_seconds: Time to start a process and to build the model.
        gpu_context_mb: Memory of a GPU that its driver and libraries take.
        host_mb: Memory of a training process on the host, without batches, weights and activations.
        driver_mb: What CUDA's libraries take there.
        worker_mb: Memory of a process that decodes, or waits for that, with its box.
    """

    gpu_tflops_bf16: float = 989.0
    gpu_tflops_tf32: float = 494.0
    gpu_tflops_fp32: float = 67.0
    gpu_reached_bf16: float = 0.05
    gpu_reached_tf32: float = 0.08
    gpu_reached_fp32: float = 0.48
    cpu_reached: float = 0.3
    cpu_flops_per_cycle: float = 32.0
    utilisation: float = 0.0
    answering: float = 0.0
    decode_share: float = 0.02
    read_mb_per_second: float = 500.0
    exchange_mb_per_second: float = 10_000.0
    start_seconds: float = 10.0
    gpu_context_mb: float = 600.0
    host_mb: float = 1000.0
    driver_mb: float = 500.0
    worker_mb: float = 600.0


ASSUMED = Assumed()

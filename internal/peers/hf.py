"""Times of Mixtral 8x7B with Hugging Face Transformers, to compare moec with.

The model has its real sizes and random bf16 weights, made on the GPU: nothing is
downloaded. Needs one GPU with 110 GB, torch, triton and transformers:

    python3 internal/peers/hf.py

prints milliseconds a token of `generate` as it comes, and of the fastest way found:
a static cache, the step compiled with max-autotune and replayed as a CUDA graph,
with the implementation of the experts that suits the batch. Times of prompts are of
the fastest of the experts' implementations. Beside them is a plain read of memory in
the same run. docs/bench/peers.txt keeps what it printed.

A variant that does not fit into --seconds is skipped, and says so.
"""

import argparse
import datetime
import logging
import signal
import statistics
import time

import torch
import transformers
import triton
import triton.language as tl
from transformers import MixtralConfig, MixtralForCausalLM, StaticCache
from transformers.generation import StoppingCriteria, StoppingCriteriaList

PROMPT, NEW = 128, 128


class TooLong(BaseException):
    """There is no time left for a variant. No `except Exception` of a compiler takes it."""


@triton.jit
def read_all(x, out, n, BLOCK: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lanes = tl.arange(0, BLOCK)
    all = tl.zeros([BLOCK], tl.int32)
    for at in range(first, n, tl.num_programs(0).to(tl.int64) * BLOCK):
        all ^= tl.load(x + at + lanes)
    tl.store(out + first + lanes, all)


def read_stream():
    """Returns the bytes a second of a plain read."""
    n, block, programs = 1 << 31, 8192, 4 * torch.cuda.get_device_properties(0).multi_processor_count
    x, out = torch.ones(n, dtype=torch.int32, device="cuda"), torch.empty(programs * block, dtype=torch.int32, device="cuda")
    took = timed(lambda: read_all[(programs,)](x, out, n, BLOCK=block, num_warps=8), 6)
    return 4 * n / took


def timed(f, times):
    """Returns the median of the seconds that f takes, after one time that does not count."""
    list = []
    for _ in range(times + 1):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        f()
        torch.cuda.synchronize()
        list.append(time.perf_counter() - begin)
    return statistics.median(list[1:])


def build(layers):
    config = MixtralConfig(num_hidden_layers=layers)
    with torch.device("meta"):
        model = MixtralForCausalLM(config).to(torch.bfloat16)
    model = model.to_empty(device="cuda").eval()
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config).to("cuda")
    torch.manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.fill_(1)
            else:
                p.normal_(0, config.initializer_range)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def prompt(batch, tokens):
    return torch.randint(1, 32000, (batch, tokens), generator=torch.Generator("cuda").manual_seed(2), device="cuda")


class Clock(StoppingCriteria):
    """Notes when tokens come, and stops after some seconds."""

    def __init__(self, seconds):
        self.seconds, self.times = seconds, []

    def __call__(self, ids, scores, **kwargs):
        torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        late = len(self.times) > 16 and self.times[-1] - self.times[0] > self.seconds
        return torch.full((ids.shape[0],), late, dtype=torch.bool, device=ids.device)


def default(model, batch):
    """Returns the median milliseconds between tokens of generate as it comes."""
    for new in (3, NEW):
        clock = Clock(6)
        model.generate(prompt(batch, PROMPT), max_new_tokens=new, do_sample=False, stopping_criteria=StoppingCriteriaList([clock]))
    gaps = [b - a for a, b in zip(clock.times, clock.times[1:])]
    return 1e3 * statistics.median(gaps), f"{len(gaps)} tokens"


def tuned(model, batch, experts):
    """Returns the milliseconds a token of compiled steps that a CUDA graph replays."""
    torch._dynamo.reset()
    model.set_experts_implementation("grouped_mm")  # batched_mm copies the experts of each token, too many for a prompt
    cache = StaticCache(config=model.config, max_cache_len=PROMPT + 2 * NEW)
    token = model(prompt(batch, PROMPT), past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].argmax(-1, keepdim=True)
    model.set_experts_implementation(experts)

    def step(token):
        return model(token, past_key_values=cache, use_cache=True).logits[:, -1].argmax(-1, keepdim=True)

    begin = time.perf_counter()
    fast = torch.compile(step, mode="max-autotune-no-cudagraphs", dynamic=False)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            token.copy_(fast(token))
    torch.cuda.synchronize()
    compiled = time.perf_counter() - begin
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        token.copy_(fast(token))
    took = timed(lambda: [graph.replay() for _ in range(NEW // 4)], 4)
    return 1e3 * took / (NEW // 4), f"experts {experts}, compiled in {compiled:.0f} s"


def prefill(model, tokens):
    """Returns the milliseconds of a prompt, with the fastest experts."""
    best, name = float("inf"), ""
    for experts in ("grouped_mm", "eager"):
        model.set_experts_implementation(experts)
        took = 1e3 * timed(lambda: model(prompt(1, tokens), use_cache=True, logits_to_keep=1), 5)
        if took < best:
            best, name = took, experts
    return best, f"experts {name}"


def main():
    p = argparse.ArgumentParser(description="times of Mixtral 8x7B with Hugging Face Transformers")
    p.add_argument("--seconds", type=int, default=520, help="skip what does not fit into so many")
    p.add_argument("--only", default="", help="only variants with this in their lines")
    p.add_argument("--layers", type=int, default=32, help="fewer to try it out")
    a = p.parse_args()
    start = time.monotonic()
    over = []

    def late(*_):
        over.append(True)
        raise TooLong

    signal.signal(signal.SIGALRM, late)
    torch._logging.set_logs(all=logging.CRITICAL)  # of kernels that autotuning tries in vain
    torch.set_grad_enabled(False)
    model = build(a.layers)
    first = model.get_experts_implementation()
    print(f"{datetime.date.today()}, {torch.cuda.get_device_name()}, torch {torch.__version__}, transformers {transformers.__version__}, {a.layers} layers")
    print(f"read stream {read_stream() / 1e9:.0f} GB/s; experts by default {first}; ready after {time.monotonic() - start:.0f} s", flush=True)
    torch.cuda.empty_cache()
    variants = [("generate as it comes", f"batch {b}", default, (b,)) for b in (1, 8, 32)]
    variants += [("prompt", f"{n} tokens", prefill, (n,)) for n in (512, 2048)]
    variants += [("static cache, max-autotune, CUDA graph", f"batch {b}", tuned, (b, e)) for b, e in ((1, "batched_mm"), (8, "grouped_mm"), (32, "grouped_mm"))]
    for name, what, f, args in variants:
        if a.only not in f"{name} {what}":
            continue
        left = a.seconds - int(time.monotonic() - start)
        try:
            signal.setitimer(signal.ITIMER_REAL, max(left, 1), 2)  # again, should somebody take it all the same
            ms, note = f(model, *args)
            print(f"{name:40} {what:12} {ms:9.3f} ms   {note}", flush=True)
        except (Exception, TooLong) as e:
            signal.setitimer(signal.ITIMER_REAL, 0)
            reason = f"failed: {type(e).__name__}: {(str(e).strip() or 'no text').splitlines()[0]}"
            if over:
                reason = f"skipped: it does not fit into the {max(left, 0)} of {a.seconds} s that were left"
            print(f"{name:40} {what:12} {reason}", flush=True)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()

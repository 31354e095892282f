"""A job that needs V8, as the official glTF validator does."""

from __future__ import annotations

from py_mini_racer import MiniRacer

from cloudbaker.compute.job import Inputs, JobResult, Params


def script(inputs: Inputs, params: Params) -> JobResult:
    with MiniRacer() as engine:
        value = engine.eval("JSON.stringify({sum: [1, 2, 3].reduce((a, b) => a + b), day: new Date(0).toISOString()})")
        wasm = engine.eval("new WebAssembly.Memory({initial: 256}).buffer.byteLength")
        promise = engine.eval("Promise.resolve(41).then(x => x + 1)")
        view = engine.eval("var bytes = new SharedArrayBuffer(5); bytes")
        view[:] = inputs["bytes"]
        text = engine.eval("String.fromCharCode(...new Uint8Array(bytes))")
        return JobResult([value, wasm, promise.get(timeout=10), text])


def balloon(inputs: Inputs, params: Params) -> JobResult:
    with MiniRacer() as engine:
        engine.eval("var a = []; while (true) a.push(new Array(1e6).fill(1.5))")
    return JobResult("survived")

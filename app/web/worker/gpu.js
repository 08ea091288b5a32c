// The seam's JavaScript half: what would cost a proxy call for each dispatch if Python did it. `app/py/lora_lab/gpu/
// browser.py` is the other half and states the contract. No wrapper objects are made while a plan is replayed.

const ACCESS = { uniform: "uniform", read: "read-only-storage", read_write: "storage" };
const LIMITS = [
  "maxBufferSize", "maxStorageBufferBindingSize", "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize", "maxComputeInvocationsPerWorkgroup", "maxComputeWorkgroupSizeX",
];
const OPTIONAL_FEATURES = ["timestamp-query"];
const ASKING_MS = 15; // of compiling are asked for in one go
const ASK_AGAIN_MS = [200, 500, 1000, 1500];

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// The first request after the browser's GPU process has restarted may find nothing; a later one does.
async function requestAdapter() {
  for (const wait of [0, ...ASK_AGAIN_MS]) {
    await pause(wait);
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
    if (adapter) return adapter;
  }
  return null;
}

// Returns null where the browser has no WebGPU, or no adapter for it.
export async function openDevice() {
  if (!globalThis.navigator?.gpu) return null;
  const adapter = await requestAdapter();
  if (!adapter) return null;
  const requiredLimits = {};
  for (const name of LIMITS) requiredLimits[name] = adapter.limits[name];
  const requiredFeatures = OPTIONAL_FEATURES.filter((name) => adapter.features.has(name));
  const device = await adapter.requestDevice({ requiredLimits, requiredFeatures });
  return new Gpu(device, adapter.info ?? {});
}

export class Gpu {
  constructor(device, info) {
    this.device = device;
    this.lost = null;          // why, once it is
    this.error = null;         // the first error that nobody has fetched yet
    this.layouts = new Map();  // "binding:access,..." -> { group, pipeline }
    this.modules = new Map();  // WGSL source -> GPUShaderModule
    this.staging = new Map();  // size -> idle buffers to read through
    const software = info.isFallbackAdapter || /swiftshader|llvmpipe|lavapipe|warp|basic render/i.test(
      `${info.vendor} ${info.architecture} ${info.device} ${info.description}`);
    this.info = {
      name: info.description || info.device || [info.vendor, info.architecture].filter(Boolean).join(" ") || "GPU",
      vendor: info.vendor ?? "", software: Boolean(software),
    };
    device.lost.then((lost) => { this.lost = lost.message || lost.reason || "no reason given"; });
    device.addEventListener("uncapturederror", ({ error }) => {
      this.error ??= `${error instanceof GPUOutOfMemoryError ? "out of memory: " : ""}${error.message}`;
    });
  }

  limit(name) { return this.device.limits[name]; }

  createBuffer(size, label, uniform) {
    const kind = uniform ? GPUBufferUsage.UNIFORM : GPUBufferUsage.STORAGE;
    return this.device.createBuffer({ size, label, usage: kind | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC });
  }

  write(buffer, offset, bytes) { this.device.queue.writeBuffer(buffer, offset, bytes); }

  // Resolves to a Uint8Array of its own. Everything submitted before has been done by then.
  async read(buffer, offset, size, encoder = this.device.createCommandEncoder()) {
    const idle = this.staging.get(size) ?? [];
    this.staging.set(size, idle);
    const staging = idle.pop()
      ?? this.device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    encoder.copyBufferToBuffer(buffer, offset, staging, 0, size);
    this.device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const bytes = new Uint8Array(staging.getMappedRange().slice(0));
    staging.unmap();
    if (size <= 65536 && idle.length < 4) idle.push(staging); else staging.destroy();
    return bytes;
  }

  layout(key) {
    let layout = this.layouts.get(key);
    if (!layout) {
      const entries = key.split(",").map((part) => {
        const [binding, access] = part.split(":");
        return { binding: Number(binding), visibility: GPUShaderStage.COMPUTE, buffer: { type: ACCESS[access] } };
      });
      const group = this.device.createBindGroupLayout({ entries });
      layout = { group, pipeline: this.device.createPipelineLayout({ bindGroupLayouts: [group] }) };
      this.layouts.set(key, layout);
    }
    return layout;
  }

  // kernels: [{ source, entry, label, layout }]; all are compiled at the same time. Asking takes time of its own, as
  // some hosts read the source at once: others get their turn in between.
  async compile(kernels, onProgress) {
    const asked = [];
    let done = 0, since = performance.now();
    const one = async ({ source, entry, label, layout }) => {
      let module = this.modules.get(source);
      if (!module) this.modules.set(source, module = this.device.createShaderModule({ code: source, label }));
      const { group, pipeline: pipelineLayout } = this.layout(layout);
      let pipeline;
      try {
        pipeline = await this.device.createComputePipelineAsync({
          layout: pipelineLayout, compute: { module, entryPoint: entry }, label,
        });
      } catch (error) {
        const { messages } = await module.getCompilationInfo();
        const details = messages.map((m) => `${m.lineNum}:${m.linePos} ${m.message}`).join("\n");
        throw new Error(`${label}.${entry} does not compile: ${error.message}\n${details}`);
      }
      onProgress?.(++done, kernels.length);
      return { pipeline, group };
    };
    for (const kernel of kernels) {
      const pipeline = one(kernel);
      pipeline.catch(() => {}); // told below; a rejection must not be without a listener until then
      asked.push(pipeline);
      if (performance.now() - since < ASKING_MS) continue;
      await pause(0);
      since = performance.now();
    }
    return Promise.all(asked);
  }

  // table: see Device._assemble. Validation errors reach the caller through an error scope.
  async assemble(pipelines, buffers, table) {
    this.device.pushErrorScope("validation");
    const plan = { pipelines: [], groups: [], counts: [] };
    for (let at = 0; at < table.length;) {
      const { pipeline, group } = pipelines[table[at]];
      const entries = new Array(table[at + 1]);
      at += 2;
      for (let i = 0; i < entries.length; i++, at += 4) {
        entries[i] = {
          binding: table[at],
          resource: { buffer: buffers[table[at + 1]], offset: table[at + 2], size: table[at + 3] },
        };
      }
      plan.pipelines.push(pipeline);
      plan.groups.push(this.device.createBindGroup({ layout: group, entries }));
      plan.counts.push(table[at], table[at + 1], table[at + 2]);
      at += 3;
    }
    const error = await this.device.popErrorScope();
    if (error) throw new Error(error.message);
    return plan;
  }

  submit(plan, first, last) { this.device.queue.submit([this.encode(plan, first, last).finish()]); }

  // The same, and what `read` gives then: one submit for both.
  submitReading(plan, first, last, buffer, offset, size) {
    return this.read(buffer, offset, size, this.encode(plan, first, last));
  }

  encode(plan, first, last) {
    const { pipelines, groups, counts } = plan;
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    let current = null;
    for (let i = first; i < last; i++) {
      if (pipelines[i] !== current) pass.setPipeline(current = pipelines[i]);
      pass.setBindGroup(0, groups[i]);
      pass.dispatchWorkgroups(counts[3 * i], counts[3 * i + 1], counts[3 * i + 2]);
    }
    pass.end();
    return encoder;
  }

  // Replays a plan once, `together` dispatches in a pass, and resolves to the passes' times in ns (Float64Array), or to
  // null without the feature `timestamp-query`. For the benchmark.
  async profile(plan, together) {
    if (!this.device.features.has("timestamp-query")) return null;
    const dispatches = plan.groups.length;
    const count = Math.ceil(dispatches / together);
    const times = new Float64Array(count);
    const PART = 2048; // a query set holds at most 4,096
    for (let first = 0; first < count; first += PART) {
      const part = Math.min(PART, count - first);
      const querySet = this.device.createQuerySet({ type: "timestamp", count: 2 * part });
      const resolved = this.device.createBuffer({
        size: 16 * part, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
      });
      const encoder = this.device.createCommandEncoder();
      for (let i = 0; i < part; i++) {
        const timestampWrites = { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
        const pass = encoder.beginComputePass({ timestampWrites });
        const begin = (first + i) * together, end = Math.min(begin + together, dispatches);
        for (let at = begin; at < end; at++) {
          pass.setPipeline(plan.pipelines[at]);
          pass.setBindGroup(0, plan.groups[at]);
          pass.dispatchWorkgroups(plan.counts[3 * at], plan.counts[3 * at + 1], plan.counts[3 * at + 2]);
        }
        pass.end();
      }
      encoder.resolveQuerySet(querySet, 0, 2 * part, resolved, 0);
      this.device.queue.submit([encoder.finish()]);
      const stamps = new BigUint64Array((await this.read(resolved, 0, 16 * part)).buffer);
      for (let i = 0; i < part; i++) times[first + i] = Number(stamps[2 * i + 1] - stamps[2 * i]);
      resolved.destroy();
      querySet.destroy();
    }
    return times;
  }

  finished() { return this.device.queue.onSubmittedWorkDone(); }

  // Out-of-memory errors of buffers are asynchronous: one round trip through an empty scope brings them in.
  async takeError() {
    this.device.pushErrorScope("out-of-memory");
    const inner = await this.device.popErrorScope();
    const error = this.error ?? inner?.message ?? null;
    this.error = null;
    return error;
  }

  close() {
    for (const idle of this.staging.values()) for (const buffer of idle) buffer.destroy();
    this.device.destroy();
  }
}

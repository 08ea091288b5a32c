// grad_norm:  norm = sqrt(sum of squares of all gradients), in two fixed passes: no atomics, the same bits each time.
// squares: partials[offset + g] = the sum over g's stretch of PER_GROUP values     norm: of `n` partials
struct Params { n: u32, offset: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> grads: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;
@group(0) @binding(4) var<storage, read> partials_in: array<f32>;
@group(0) @binding(5) var<storage, read_write> norm: array<f32>;
const PER_GROUP = 8192u;
var<workgroup> partial: array<f32, 256>;

fn sum_over_workgroup(value: f32, lane: u32) -> f32 {
    partial[lane] = value;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half >>= 1u) {
        if (lane < half) { partial[lane] += partial[lane + half]; }
        workgroupBarrier();
    }
    return partial[0];
}

@compute @workgroup_size(256)
fn squares(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let start = group.x * PER_GROUP;
    var sum = 0.0;
    for (var i = start + lane; i < min(start + PER_GROUP, params.n); i += 256u) { sum += grads[i] * grads[i]; }
    sum = sum_over_workgroup(sum, lane);
    if (lane == 0u) { partials[params.offset + group.x] = sum; }
}

@compute @workgroup_size(256)
fn total(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < params.n; i += 256u) { sum += partials_in[i]; }
    sum = sum_over_workgroup(sum, lane);
    if (lane == 0u) { norm[0] = sqrt(sum); }
}

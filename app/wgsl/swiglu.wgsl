// swiglu:  y = silu(gate) * up,  silu(g) = g * s,  s = 1 / (1 + exp(-g))
//   dgate = dy * up * s * (1 + g * (1 - s)),   dup = dy * silu(gate);   all (n), written with `=`.
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> gate: array<f32>;
@group(0) @binding(3) var<storage, read> up: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> dgate: array<f32>;
@group(0) @binding(7) var<storage, read_write> dup: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
           @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i >= params.n) { return; }
    y[i] = gate[i] / (1.0 + exp(-gate[i])) * up[i];
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
            @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i >= params.n) { return; }
    let g = gate[i];
    let s = 1.0 / (1.0 + exp(-g));
    dgate[i] = dy[i] * up[i] * s * (1.0 + g * (1.0 - s));
    dup[i] = dy[i] * g * s;
}

// swiglu:  y = silu(gate) * up,  silu(g) = g * s,  s = 1 / (1 + exp(-g))
//   dgate = dy * up * s * (1 + g * (1 - s)),   dup = dy * silu(gate);   all (n)
// The gradients take the place of gate and up: gate_grad and up_grad hold one before and the other after.
// backward_and_again also writes y as forward did, so that y need not be kept for the backward of what read it.
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> gate: array<f32>;
@group(0) @binding(3) var<storage, read> up: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> gate_grad: array<f32>;
@group(0) @binding(3) var<storage, read_write> up_grad: array<f32>;

fn silu_times(g: f32, u: f32) -> f32 { return g / (1.0 + exp(-g)) * u; }

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
           @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i >= params.n) { return; }
    y[i] = silu_times(gate[i], up[i]);
}

fn write_gradients(i: u32, g: f32, u: f32) {
    let s = 1.0 / (1.0 + exp(-g));
    gate_grad[i] = dy[i] * u * s * (1.0 + g * (1.0 - s));
    up_grad[i] = dy[i] * g * s;
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
            @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i < params.n) { write_gradients(i, gate_grad[i], up_grad[i]); }
}

@compute @workgroup_size(64)
fn backward_and_again(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
                      @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i >= params.n) { return; }
    let g = gate_grad[i];
    let u = up_grad[i];
    write_gradients(i, g, u);
    y[i] = silu_times(g, u);
}

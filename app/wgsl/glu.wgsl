// glu:  y = act(gate) * up   (Shazeer 2020), act by GELU, which the op gives:
//   SwiGLU  silu(g) = g * s,  s = 1 / (1 + exp(-g)),  silu'(g) = s * (1 + g * (1 - s))
//   GeGLU   gelu(g) = g * s with s = 1 / (1 + exp(-2 z)),  z = sqrt(2 / pi) (g + 0.044715 g^3): the tanh form, as
//           (1 + tanh z) / 2 = s;  gelu'(g) = s + 2 g s (1 - s) z',  z' = sqrt(2 / pi) (1 + 0.134145 g^2)
//   dgate = dy * up * act'(gate),   dup = dy * act(gate);   all (n)
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

// An invocation has four elements, LANES apart: all of them are asked for at once.
const LANES = 256u;
fn first_of(group: vec3u, groups: vec3u, lane: u32) -> u32 { return (group.y * groups.x + group.x) * 4u * LANES + lane; }
fn places(i: u32) -> vec4u { return vec4u(i) + vec4u(0u, LANES, 2u * LANES, 3u * LANES); }
fn there(i: u32) -> vec4u { return min(places(i), vec4u(params.n - 1u)); }

fn store_y(i: u32, value: vec4f) {
    let at = places(i);
    if (at.x < params.n) { y[at.x] = value.x; }
    if (at.y < params.n) { y[at.y] = value.y; }
    if (at.z < params.n) { y[at.z] = value.z; }
    if (at.w < params.n) { y[at.w] = value.w; }
}

fn bent(g: vec4f) -> vec4f { return 0.7978845608 * (g + 0.044715 * g * g * g); }

fn activated(g: vec4f) -> vec4f {
    if (GELU) { return g / (1.0 + exp(-2.0 * bent(g))); }
    return g / (1.0 + exp(-g));
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
           @builtin(num_workgroups) groups: vec3u) {
    let i = first_of(group, groups, lane);
    let at = there(i);
    let g = vec4f(gate[at.x], gate[at.y], gate[at.z], gate[at.w]);
    let u = vec4f(up[at.x], up[at.y], up[at.z], up[at.w]);
    store_y(i, activated(g) * u);
}

struct Gradients { gate: vec4f, up: vec4f, y: vec4f }
fn gradients(i: u32) -> Gradients {
    let at = there(i);
    let g = vec4f(gate_grad[at.x], gate_grad[at.y], gate_grad[at.z], gate_grad[at.w]);
    let u = vec4f(up_grad[at.x], up_grad[at.y], up_grad[at.z], up_grad[at.w]);
    let d = vec4f(dy[at.x], dy[at.y], dy[at.z], dy[at.w]);
    if (GELU) {
        let s = 1.0 / (1.0 + exp(-2.0 * bent(g)));
        let slope = s + 2.0 * g * s * (1.0 - s) * (0.7978845608 * (1.0 + 0.134145 * g * g));
        return Gradients(d * u * slope, d * g * s, activated(g) * u);
    }
    let s = 1.0 / (1.0 + exp(-g));
    return Gradients(d * u * s * (1.0 + g * (1.0 - s)), d * g * s, activated(g) * u);
}

fn store_gradients(i: u32, value: Gradients) {
    let at = places(i);
    if (at.x < params.n) { gate_grad[at.x] = value.gate.x; up_grad[at.x] = value.up.x; }
    if (at.y < params.n) { gate_grad[at.y] = value.gate.y; up_grad[at.y] = value.up.y; }
    if (at.z < params.n) { gate_grad[at.z] = value.gate.z; up_grad[at.z] = value.up.z; }
    if (at.w < params.n) { gate_grad[at.w] = value.gate.w; up_grad[at.w] = value.up.w; }
}

@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
            @builtin(num_workgroups) groups: vec3u) {
    let i = first_of(group, groups, lane);
    store_gradients(i, gradients(i));
}

@compute @workgroup_size(LANES)
fn backward_and_again(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
                      @builtin(num_workgroups) groups: vec3u) {
    let i = first_of(group, groups, lane);
    let found = gradients(i);
    store_gradients(i, found);
    store_y(i, found.y);
}

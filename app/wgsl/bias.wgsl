// bias:  x[r, c] += bias[c], in place.  The bias is frozen and dx is dy: there is no backward.
// x: (rows, C)   bias: (C)
struct Params { n: u32, columns: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;

@compute @workgroup_size(64)
fn add(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
       @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i < params.n) { x[i] += bias[i % params.columns]; }
}

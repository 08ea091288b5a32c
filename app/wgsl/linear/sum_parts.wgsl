// sum_parts:  y (=|+=) the sum over `parts` of a[part, :], in order; with accumulate = 2, y = residual + that sum
// a: (parts, n)   y: (n)   For products whose inner sum was cut into parts. A chunk of the loss sums its trained rows only.
struct Params { n: u32, parts: u32, columns: u32, accumulate: u32, chunk_start: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;

@compute @workgroup_size(256)
fn add(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
       @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    if (i >= params.n) { return; }
    if (params.chunk_start != 0xffffffffu && params.chunk_start + i / params.columns >= step.loss_rows) { return; }
    var sum = a[i];
    for (var part = 1u; part < params.parts; part++) { sum += a[part * params.n + i]; }
    if (params.accumulate == 1u) { sum += y[i]; }
    if (params.accumulate == 2u) { sum += residual[i]; }
    y[i] = sum;
}

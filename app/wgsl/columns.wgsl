// columns, of a part that begins at column `start` of x (rows, columns) and is `width` wide:
//   take: y[r, c] = x[r, start + c]     put: x_grad[r, start + c] = dy[r, c]
struct Params { n: u32, width: u32, columns: u32, start: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> x_grad: array<f32>;

fn place(i: u32) -> u32 { return i / params.width * params.columns + params.start + i % params.width; }

@compute @workgroup_size(64)
fn take(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
        @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i < params.n) { y[i] = x[place(i)]; }
}

@compute @workgroup_size(64)
fn put(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
       @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i < params.n) { x_grad[place(i)] = dy[i]; }
}

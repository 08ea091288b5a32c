// matmul for GPUs: the same contract as matmul.wgsl. The results are few and the sums long (LoRA's products), so a
// workgroup makes a 16 x 16 tile and splits the sum: 16 slices of 16 invocations, each with 4 x 4 results, four terms at
// a time. The slices are then added in order, so the bits do not depend on the device's scheduling.
// include: matmul_bindings.wgsl

const SLICES = 16u;
const TILE = 16u;
var<workgroup> partial: array<f32, 4096>;  // SLICES x TILE x TILE

fn b_at(k: u32, columns: vec4u) -> vec4f {
    let at = k * params.b_row + columns;
    return vec4f(b[at.x], b[at.y], b[at.z], b[at.w]);
}

@compute @workgroup_size(256)
fn multiply(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let p = product_of(group.z);
    if (group.y * TILE >= p.m) { return; }
    let slice = lane / 16u;
    let patch_row = (lane % 16u) / 4u * 4u;
    let patch_column = lane % 4u * 4u;
    let row0 = group.y * TILE + patch_row;
    let column0 = group.x * TILE + patch_column;
    // Clamped, not skipped: reads past the edge repeat the last row or column and are not stored.
    let rows = min(vec4u(row0) + vec4u(0u, 1u, 2u, 3u), vec4u(p.m - 1u)) * p.a_row + p.a_offset;
    let columns = min(vec4u(column0) + vec4u(0u, 1u, 2u, 3u), vec4u(params.n - 1u)) * params.b_column + p.b_offset;
    var acc0 = vec4f(0.0);
    var acc1 = vec4f(0.0);
    var acc2 = vec4f(0.0);
    var acc3 = vec4f(0.0);
    let whole = p.k / 4u * 4u;
    for (var k = slice * 4u; k < whole; k += SLICES * 4u) {
        let ka = vec4u(k, k + 1u, k + 2u, k + 3u) * p.a_column;
        let f0 = b_at(k, columns);
        let f1 = b_at(k + 1u, columns);
        let f2 = b_at(k + 2u, columns);
        let f3 = b_at(k + 3u, columns);
        acc0 += a[rows.x + ka.x] * f0 + a[rows.x + ka.y] * f1 + a[rows.x + ka.z] * f2 + a[rows.x + ka.w] * f3;
        acc1 += a[rows.y + ka.x] * f0 + a[rows.y + ka.y] * f1 + a[rows.y + ka.z] * f2 + a[rows.y + ka.w] * f3;
        acc2 += a[rows.z + ka.x] * f0 + a[rows.z + ka.y] * f1 + a[rows.z + ka.z] * f2 + a[rows.z + ka.w] * f3;
        acc3 += a[rows.w + ka.x] * f0 + a[rows.w + ka.y] * f1 + a[rows.w + ka.z] * f2 + a[rows.w + ka.w] * f3;
    }
    if (slice < p.k - whole) {  // what four do not divide: one term for each of the first slices
        let k = whole + slice;
        let f = b_at(k, columns);
        let ka = k * p.a_column;
        acc0 += a[rows.x + ka] * f;
        acc1 += a[rows.y + ka] * f;
        acc2 += a[rows.z + ka] * f;
        acc3 += a[rows.w + ka] * f;
    }
    let at = slice * TILE * TILE + patch_row * TILE + patch_column;
    for (var j = 0u; j < 4u; j++) {
        partial[at + j] = acc0[j];
        partial[at + TILE + j] = acc1[j];
        partial[at + 2u * TILE + j] = acc2[j];
        partial[at + 3u * TILE + j] = acc3[j];
    }
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < SLICES; i++) { sum += partial[i * TILE * TILE + lane]; }
    let row = group.y * TILE + lane / TILE;
    let column = group.x * TILE + lane % TILE;
    if (row >= p.m || column >= params.n) { return; }
    let value = sum * params.alpha * select(1.0, step.strength, params.use_strength == 1u);
    let out = p.c_offset + row * params.c_row + column;
    if (params.accumulate == 1u) { c[out] += value; } else { c[out] = value; }
}

// matmul for GPUs: the same contract as matmul.wgsl. The results are few and the sums long (LoRA's products), so a
// workgroup makes a 16 x 16 tile and splits the sum: 16 slices of 16 invocations, each with 4 x 4 results, four terms at
// a time. The slices are then added in order, so the bits do not depend on the device's scheduling.
// The op puts matmul_scalars or matmul_vectors before this.
// include: matmul_bindings.wgsl

const SLICES = 16u;
const TILE = 16u;
var<workgroup> partial: array<f32, 4096>;  // SLICES x TILE x TILE

@compute @workgroup_size(256)
fn multiply(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let p = product_of(group.z);
    if (group.y * TILE >= p.m || group.x * TILE >= p.n) { return; }
    let slice = lane / 16u;
    let patch_row = (lane % 16u) / 4u * 4u;
    let patch_column = lane % 4u * 4u;
    let row0 = group.y * TILE + patch_row;
    let column0 = group.x * TILE + patch_column;
    var acc0 = vec4f(0.0);
    var acc1 = vec4f(0.0);
    var acc2 = vec4f(0.0);
    var acc3 = vec4f(0.0);
    let whole = p.k / 4u * 4u;
    for (var k = slice * 4u; k < whole; k += SLICES * 4u) {
        let f = b_block(p, column0, k);
        let e = a_block(p, row0, k);
        acc0 += e.v0.x * f.v0 + e.v0.y * f.v1 + e.v0.z * f.v2 + e.v0.w * f.v3;
        acc1 += e.v1.x * f.v0 + e.v1.y * f.v1 + e.v1.z * f.v2 + e.v1.w * f.v3;
        acc2 += e.v2.x * f.v0 + e.v2.y * f.v1 + e.v2.z * f.v2 + e.v2.w * f.v3;
        acc3 += e.v3.x * f.v0 + e.v3.y * f.v1 + e.v3.z * f.v2 + e.v3.w * f.v3;
    }
    if (slice < p.k - whole) {  // what four do not divide: one term for each of the first slices
        let k = whole + slice;
        let second = p.second == 1u;
        let rows = min(vec4u(row0) + vec4u(0u, 1u, 2u, 3u), vec4u(p.m - 1u)) * p.a_row + p.a_offset + k * p.a_column;
        let at = min(vec4u(column0) + vec4u(0u, 1u, 2u, 3u), vec4u(p.n - 1u)) * p.b_column + p.b_offset + k * p.b_row;
        let f = vec4f(b_at(second, at.x), b_at(second, at.y), b_at(second, at.z), b_at(second, at.w));
        acc0 += a_at(second, rows.x) * f;
        acc1 += a_at(second, rows.y) * f;
        acc2 += a_at(second, rows.z) * f;
        acc3 += a_at(second, rows.w) * f;
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
    if (row >= p.m || column >= p.n) { return; }
    let value = sum * params.alpha * select(1.0, step.strength, params.use_strength == 1u);
    let out = p.c_offset + row * p.c_row + column * p.c_column;
    if (params.accumulate == 1u) { c[out] += value; } else { c[out] = value; }
}

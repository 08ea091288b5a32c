// matmul for GPUs: the same contract as matmul.wgsl. The results are few and the sums long (LoRA's products), so a
// workgroup makes a 16 x 16 tile and splits the sum: 16 slices of 16 invocations, each with 4 x 4 results, four terms at
// a time. The slices are then added in order, so the bits do not depend on the device's scheduling.
// include: matmul_bindings.wgsl

const SLICES = 16u;
const TILE = 16u;
var<workgroup> partial: array<f32, 4096>;  // SLICES x TILE x TILE

fn b_four(p: Product, k: u32, columns: vec4u) -> vec4f {
    let at = k * p.b_row + columns;
    let second = p.second == 1u;
    return vec4f(b_at(second, at.x), b_at(second, at.y), b_at(second, at.z), b_at(second, at.w));
}

fn a_four(p: Product, row: u32, k: vec4u) -> vec4f {
    let at = row + k;
    let second = p.second == 1u;
    return vec4f(a_at(second, at.x), a_at(second, at.y), a_at(second, at.z), a_at(second, at.w));
}

@compute @workgroup_size(256)
fn multiply(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let p = product_of(group.z);
    if (group.y * TILE >= p.m || group.x * TILE >= p.n) { return; }
    let slice = lane / 16u;
    let patch_row = (lane % 16u) / 4u * 4u;
    let patch_column = lane % 4u * 4u;
    let row0 = group.y * TILE + patch_row;
    let column0 = group.x * TILE + patch_column;
    // Clamped, not skipped: reads past the edge repeat the last row or column and are not stored.
    let rows = min(vec4u(row0) + vec4u(0u, 1u, 2u, 3u), vec4u(p.m - 1u)) * p.a_row + p.a_offset;
    let columns = min(vec4u(column0) + vec4u(0u, 1u, 2u, 3u), vec4u(p.n - 1u)) * p.b_column + p.b_offset;
    var acc0 = vec4f(0.0);
    var acc1 = vec4f(0.0);
    var acc2 = vec4f(0.0);
    var acc3 = vec4f(0.0);
    let whole = p.k / 4u * 4u;
    for (var k = slice * 4u; k < whole; k += SLICES * 4u) {
        let ka = vec4u(k, k + 1u, k + 2u, k + 3u) * p.a_column;
        let f0 = b_four(p, k, columns);
        let f1 = b_four(p, k + 1u, columns);
        let f2 = b_four(p, k + 2u, columns);
        let f3 = b_four(p, k + 3u, columns);
        let a0 = a_four(p, rows.x, ka);
        acc0 += a0.x * f0 + a0.y * f1 + a0.z * f2 + a0.w * f3;
        let a1 = a_four(p, rows.y, ka);
        acc1 += a1.x * f0 + a1.y * f1 + a1.z * f2 + a1.w * f3;
        let a2 = a_four(p, rows.z, ka);
        acc2 += a2.x * f0 + a2.y * f1 + a2.z * f2 + a2.w * f3;
        let a3 = a_four(p, rows.w, ka);
        acc3 += a3.x * f0 + a3.y * f1 + a3.z * f2 + a3.w * f3;
    }
    if (slice < p.k - whole) {  // what four do not divide: one term for each of the first slices
        let k = whole + slice;
        let f = b_four(p, k, columns);
        let ka = k * p.a_column;
        acc0 += a_at(p.second == 1u, rows.x + ka) * f;
        acc1 += a_at(p.second == 1u, rows.y + ka) * f;
        acc2 += a_at(p.second == 1u, rows.z + ka) * f;
        acc3 += a_at(p.second == 1u, rows.w + ka) * f;
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

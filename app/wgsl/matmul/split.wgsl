// matmul for GPUs: the same contract as matmul/whole.wgsl. The results are few and the sums long (LoRA's products), so a
// workgroup makes a small tile, TILE_ROWS x TILE_COLUMNS, and splits the sum: SLICES slices, of which each invocation
// makes 4 x 4 results, four terms at a time. The slices are then added in order, so the bits do not depend on the
// device's scheduling. STRIDED: a slice takes every SLICES-th term, so that slices side by side read rows side by side;
// else every SLICES-th four of them. ALONG: neighbours are slices of one patch, for factors that both lie along the sum;
// else patches of one slice. PAIRS: some product has second = 1.
// The op gives the constants, and puts matmul_scalars or matmul_vectors before this.
// include: matmul/bindings.wgsl

const ACROSS = TILE_COLUMNS / 4u;              // patches beside each other
const PATCHES = TILE_ROWS / 4u * ACROSS;
const LANES = PATCHES * SLICES;
var<workgroup> partial: array<vec4f, LANES * 4u>;

// One more four of terms, from k on. `second` is a constant where this is called: a branch in the loop cost a fifth.
fn add_terms(sums: Block, p: Product, second: bool, row0: u32, column0: u32, k: u32) -> Block {
    let terms = vec4u(k) + vec4u(0u, 1u, 2u, 3u) * select(1u, SLICES, STRIDED);
    let there = min(terms, vec4u(p.k - 1u));
    let e = a_block(p, second, row0, there);
    var f = b_block(p, second, column0, there);
    if (STRIDED) {
        f.v1 = select(vec4f(0.0), f.v1, terms.y < p.k);
        f.v2 = select(vec4f(0.0), f.v2, terms.z < p.k);
        f.v3 = select(vec4f(0.0), f.v3, terms.w < p.k);
    }
    return Block(sums.v0 + (e.v0.x * f.v0 + e.v0.y * f.v1 + e.v0.z * f.v2 + e.v0.w * f.v3),
                 sums.v1 + (e.v1.x * f.v0 + e.v1.y * f.v1 + e.v1.z * f.v2 + e.v1.w * f.v3),
                 sums.v2 + (e.v2.x * f.v0 + e.v2.y * f.v1 + e.v2.z * f.v2 + e.v2.w * f.v3),
                 sums.v3 + (e.v3.x * f.v0 + e.v3.y * f.v1 + e.v3.z * f.v2 + e.v3.w * f.v3));
}

@compute @workgroup_size(LANES)
fn multiply(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let p = product_of(group.z);
    if (group.y * TILE_ROWS >= p.m || group.x * TILE_COLUMNS >= p.n) { return; }
    let slice = select(lane / PATCHES, lane % SLICES, ALONG);
    let place = select(lane % PATCHES, lane / SLICES, ALONG);
    let row0 = group.y * TILE_ROWS + place / ACROSS * 4u;
    let column0 = group.x * TILE_COLUMNS + place % ACROSS * 4u;
    let first = select(slice * 4u, slice, STRIDED);
    var sums = Block(vec4f(0.0), vec4f(0.0), vec4f(0.0), vec4f(0.0));
    if (PAIRS && p.second == 1u) {
        for (var k = first; k < p.k; k += SLICES * 4u) { sums = add_terms(sums, p, true, row0, column0, k); }
    } else {
        for (var k = first; k < p.k; k += SLICES * 4u) { sums = add_terms(sums, p, false, row0, column0, k); }
    }
    let at = (slice * TILE_ROWS + place / ACROSS * 4u) * ACROSS + place % ACROSS;
    partial[at] = sums.v0;
    partial[at + ACROSS] = sums.v1;
    partial[at + 2u * ACROSS] = sums.v2;
    partial[at + 3u * ACROSS] = sums.v3;
    workgroupBarrier();
    let strength = params.alpha * select(1.0, step.strength, params.use_strength == 1u);
    let upright = p.c_row < p.c_column;  // neighbours write neighbours, whichever way the result lies
    for (var i = lane; i < TILE_ROWS * TILE_COLUMNS; i += LANES) {
        let row = select(i / TILE_COLUMNS, i % TILE_ROWS, upright);
        let column = select(i % TILE_COLUMNS, i / TILE_ROWS, upright);
        var sum = 0.0;
        for (var s = 0u; s < SLICES; s++) { sum += partial[(s * TILE_ROWS + row) * ACROSS + column / 4u][column % 4u]; }
        let y = group.y * TILE_ROWS + row;
        let x = group.x * TILE_COLUMNS + column;
        if (y < p.m && x < p.n) {
            let out = p.c_offset + y * p.c_row + x * p.c_column;
            if (params.accumulate == 1u) { c[out] += sum * strength; } else { c[out] = sum * strength; }
        }
    }
}

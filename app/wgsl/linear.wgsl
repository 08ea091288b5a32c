// linear, for GPUs: tiles of TILE_ROWS (64 or 32) x 64 through workgroup memory.
// Sixty-four invocations make a tile, each TILE_ROWS / 8 rows by 8 columns of it. Where tiles are too few to fill a GPU
// the inner sum is split among SLICES such groups, whose results are added in order: the bits depend on the constants
// (given by the op from the shape alone), not on the device's scheduling.
// The patch is sixteen named vectors, rows 0-7 by (near, far) columns: arrays that compilers do not unroll would go to
// memory, ten times slower. With TILE_ROWS = 32 rows 4-7 are never used and cost nothing.
// include: linear_bindings.wgsl
const DEPTH = 16u;                        // of the inner sum, per trip and slice
const LEFT = TILE_ROWS / 4u + 1u;         // vectors of a depth: four rows (or columns) each, one more to spread the banks
const RIGHT = 17u;
const LANES = 64u;
const SPAN = DEPTH * SLICES;              // of the inner sum, per trip of all slices
const TALL = TILE_ROWS > 32u;

var<workgroup> left: array<vec4f, SLICES * DEPTH * LEFT>;
var<workgroup> right: array<vec4f, SLICES * DEPTH * RIGHT>;
var<workgroup> sums: array<vec4f, SUMS>;

fn store4(at: u32, count: u32, value: vec4f) {
    let old = params.accumulate == 1u;
    y[at] = value.x + select(0.0, y[at], old);
    if (count > 1u) { y[at + 1u] = value.y + select(0.0, y[at + 1u], old); }
    if (count > 2u) { y[at + 2u] = value.z + select(0.0, y[at + 2u], old); }
    if (count > 3u) { y[at + 3u] = value.w + select(0.0, y[at + 3u], old); }
}

// Four results of a row: outputs of the layer in forward, plain columns in backward.
fn store_forward(y0: u32, rows: u32, row: u32, column: u32, value: vec4f) {
    if (row < rows && column < params.columns) { store4(y0 + place_of(row, column), params.columns - column, value); }
}

fn store_backward(y0: u32, rows: u32, row: u32, column: u32, value: vec4f) {
    if (row < rows && column < params.columns) {
        store4(y0 + row * params.columns + column, params.columns - column, value);
    }
}

// Adds the slices' vectors in order; the sum is right in slice 0.
fn fold(value: vec4f, slice: u32, lane: u32) -> vec4f {
    if (SLICES == 1u) { return value; }
    workgroupBarrier();
    sums[slice * LANES + lane] = value;
    workgroupBarrier();
    var total = sums[lane];
    for (var s = 1u; s < SLICES; s++) { total += sums[s * LANES + lane]; }
    return total;
}

// What an invocation brings in one trip: four depths of four rows, and four quads of the weight.
struct Load { a0: vec4f, a1: vec4f, a2: vec4f, a3: vec4f, b0: vec4f, b1: vec4f, b2: vec4f, b3: vec4f }

fn x_quad(row: u32, rows: u32, quad: u32, quads: u32) -> vec4f {
    if (row >= rows) { return vec4f(0.0); }
    return x[row * quads + quad];
}

fn column_quad(column: u32, quad: u32, quads: u32) -> vec4f {
    if (column >= params.columns) { return vec4f(0.0); }
    return weight_quad(params.weight_row0 + column, quad, quads);
}

// Depths k .. k + 15 (those below `end`): this invocation's are k + 4 (lane % 4) and on, of rows and columns 4 (lane / 4).
fn load_forward(k: u32, end: u32, lane: u32, rows: u32, row0: u32, column0: u32) -> Load {
    var next: Load;
    let quads = params.inner / 4u;
    let depth = k + lane % 4u * 4u;
    if (depth >= end) { return next; }
    let row = row0 + lane / 4u * 4u;
    if (lane < TILE_ROWS) {
        next.a0 = x_quad(row, rows, depth / 4u, quads);
        next.a1 = x_quad(row + 1u, rows, depth / 4u, quads);
        next.a2 = x_quad(row + 2u, rows, depth / 4u, quads);
        next.a3 = x_quad(row + 3u, rows, depth / 4u, quads);
    }
    let column = column0 + lane / 4u * 4u;
    next.b0 = column_quad(column, depth / 4u, quads);
    next.b1 = column_quad(column + 1u, depth / 4u, quads);
    next.b2 = column_quad(column + 2u, depth / 4u, quads);
    next.b3 = column_quad(column + 3u, depth / 4u, quads);
    return next;
}

fn dy_quad(row: u32, rows: u32, n: u32, count: u32) -> vec4f {
    if (row >= rows) { return vec4f(0.0); }
    if (count == 0u) { return vec4f(0.0); }
    let at = place_of(row, n);
    if (count > 3u) { return vec4f(dy[at], dy[at + 1u], dy[at + 2u], dy[at + 3u]); }
    var value = vec4f(0.0);
    if (count > 0u) { value.x = dy[at]; }
    if (count > 1u) { value.y = dy[at + 1u]; }
    if (count > 2u) { value.z = dy[at + 2u]; }
    return value;
}

fn row_quad(n: u32, end: u32, quad: u32, quads: u32) -> vec4f {
    if (n >= end) { return vec4f(0.0); }
    return weight_quad(params.weight_row0 + n, quad, quads);
}

// The same depths of dy; of the weight, depths k + lane / 16 + 0, 4, 8, 12, one quad of columns each.
fn load_backward(k: u32, end: u32, lane: u32, rows: u32, row0: u32, column0: u32) -> Load {
    var next: Load;
    let n = k + lane % 4u * 4u;
    let count = max(end, n) - n;
    let row = row0 + lane / 4u * 4u;
    if (lane < TILE_ROWS) {
        next.a0 = dy_quad(row, rows, n, count);
        next.a1 = dy_quad(row + 1u, rows, n, count);
        next.a2 = dy_quad(row + 2u, rows, n, count);
        next.a3 = dy_quad(row + 3u, rows, n, count);
    }
    let quads = params.columns / 4u;
    let quad = column0 / 4u + lane % 16u;
    if (quad < quads) {
        let depth = k + lane / 16u;
        next.b0 = row_quad(depth, end, quad, quads);
        next.b1 = row_quad(depth + 4u, end, quad, quads);
        next.b2 = row_quad(depth + 8u, end, quad, quads);
        next.b3 = row_quad(depth + 12u, end, quad, quads);
    }
    return next;
}

// Four lines of four depths become four depths of four lines.
fn put_left(depth0: u32, lane: u32, next: Load) {
    if (lane >= TILE_ROWS) { return; }
    let at = (depth0 + lane % 4u * 4u) * LEFT + lane / 4u;
    left[at] = vec4f(next.a0.x, next.a1.x, next.a2.x, next.a3.x);
    left[at + LEFT] = vec4f(next.a0.y, next.a1.y, next.a2.y, next.a3.y);
    left[at + 2u * LEFT] = vec4f(next.a0.z, next.a1.z, next.a2.z, next.a3.z);
    left[at + 3u * LEFT] = vec4f(next.a0.w, next.a1.w, next.a2.w, next.a3.w);
}

fn put_right_forward(depth0: u32, lane: u32, next: Load) {
    let at = (depth0 + lane % 4u * 4u) * RIGHT + lane / 4u;
    right[at] = vec4f(next.b0.x, next.b1.x, next.b2.x, next.b3.x);
    right[at + RIGHT] = vec4f(next.b0.y, next.b1.y, next.b2.y, next.b3.y);
    right[at + 2u * RIGHT] = vec4f(next.b0.z, next.b1.z, next.b2.z, next.b3.z);
    right[at + 3u * RIGHT] = vec4f(next.b0.w, next.b1.w, next.b2.w, next.b3.w);
}

fn put_right_backward(depth0: u32, lane: u32, next: Load) {
    let at = (depth0 + lane / 16u) * RIGHT + lane % 16u;
    right[at] = next.b0;
    right[at + 4u * RIGHT] = next.b1;
    right[at + 8u * RIGHT] = next.b2;
    right[at + 12u * RIGHT] = next.b3;
}

fn lora_in_at(row: u32, rows: u32, r: u32) -> f32 {
    if (row >= rows || r >= params.rank_total) { return 0.0; }
    return lora_in[row * params.rank_total + r];
}

// Element (r, column) of the right factor. In forward it is zero where column and rank are of different layers.
fn lora_weight_at(column: u32, r: u32, forward_: bool) -> f32 {
    if (column >= params.columns || r >= params.rank_total) { return 0.0; }
    if (!forward_) { return lora_weight[r * params.columns + column]; }
    if (r / params.rank != layer_of(column).index) { return 0.0; }
    return lora_weight[column * params.rank + r % params.rank];
}

// The adapter's tiles: lora_in (rows, all ranks), and lora_weight, (columns, R) in forward and (all ranks, columns) in backward. The
// slices take turns through R as they do through the weight's sum.
fn load_lora(r0: u32, depth0: u32, lane: u32, rows: u32, row0: u32, column0: u32, by_column: bool) {
    for (var i = lane; i < DEPTH * TILE_ROWS / 4u; i += LANES) {
        let r = r0 + i / (TILE_ROWS / 4u);
        let row = row0 + i % (TILE_ROWS / 4u) * 4u;
        left[(depth0 + i / (TILE_ROWS / 4u)) * LEFT + i % (TILE_ROWS / 4u)] =
            vec4f(lora_in_at(row, rows, r), lora_in_at(row + 1u, rows, r), lora_in_at(row + 2u, rows, r),
                  lora_in_at(row + 3u, rows, r));
    }
    for (var i = lane; i < DEPTH * 16u; i += LANES) {
        let r = r0 + i / 16u;
        let column = column0 + i % 16u * 4u;
        right[(depth0 + i / 16u) * RIGHT + i % 16u] =
            vec4f(lora_weight_at(column, r, by_column), lora_weight_at(column + 1u, r, by_column),
                  lora_weight_at(column + 2u, r, by_column), lora_weight_at(column + 3u, r, by_column));
    }
}

@compute @workgroup_size(LANES * SLICES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    let rows = active_rows();
    let row0 = group.y * TILE_ROWS;
    let column0 = group.x * 64u;
    if (row0 >= rows) { return; }
    let lane = index % LANES;
    let depth0 = index / LANES * DEPTH;
    let row = lane / 8u;        // in vectors of four, as `column`
    let column = lane % 8u;
    var near0 = vec4f(0.0);
    var far0 = vec4f(0.0);
    var near1 = vec4f(0.0);
    var far1 = vec4f(0.0);
    var near2 = vec4f(0.0);
    var far2 = vec4f(0.0);
    var near3 = vec4f(0.0);
    var far3 = vec4f(0.0);
    var near4 = vec4f(0.0);
    var far4 = vec4f(0.0);
    var near5 = vec4f(0.0);
    var far5 = vec4f(0.0);
    var near6 = vec4f(0.0);
    var far6 = vec4f(0.0);
    var near7 = vec4f(0.0);
    var far7 = vec4f(0.0);
    let begin = group.z * params.part;
    let end = min(begin + params.part, params.inner);
    // The next trip's values are on their way from memory while this trip's are multiplied.
    var next = load_forward(begin + depth0, end, lane, rows, row0, column0);
    for (var k0 = begin; k0 < end; k0 += SPAN) {
        workgroupBarrier();
        put_left(depth0, lane, next);
        put_right_forward(depth0, lane, next);
        workgroupBarrier();
        next = load_forward(k0 + SPAN + depth0, end, lane, rows, row0, column0);
        for (var k = 0u; k < DEPTH; k++) {
            let near = right[(depth0 + k) * RIGHT + column];
            let far = right[(depth0 + k) * RIGHT + column + 8u];
            let f = left[(depth0 + k) * LEFT + row];
            near0 += f.x * near;
            far0 += f.x * far;
            near1 += f.y * near;
            far1 += f.y * far;
            near2 += f.z * near;
            far2 += f.z * far;
            near3 += f.w * near;
            far3 += f.w * far;
            if (TALL) {
                let g = left[(depth0 + k) * LEFT + row + 8u];
                near4 += g.x * near;
                far4 += g.x * far;
                near5 += g.y * near;
                far5 += g.y * far;
                near6 += g.z * near;
                far6 += g.z * far;
                near7 += g.w * near;
                far7 += g.w * far;
            }
        }
    }
    // Only the ranks of the layers that this tile is of; the first part of a sum takes them.
    let rank_first = layer_of(column0).index * params.rank;
    let rank_end = (layer_of(min(column0 + 63u, params.columns - 1u)).index + 1u) * params.rank;
    for (var r0 = rank_first; r0 < select(0u, rank_end, group.z == 0u); r0 += SPAN) {
        workgroupBarrier();
        load_lora(r0 + depth0, depth0, lane, rows, row0, column0, true);
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let near = right[(depth0 + k) * RIGHT + column];
            let far = right[(depth0 + k) * RIGHT + column + 8u];
            let f = left[(depth0 + k) * LEFT + row];
            near0 += f.x * near;
            far0 += f.x * far;
            near1 += f.y * near;
            far1 += f.y * far;
            near2 += f.z * near;
            far2 += f.z * far;
            near3 += f.w * near;
            far3 += f.w * far;
            if (TALL) {
                let g = left[(depth0 + k) * LEFT + row + 8u];
                near4 += g.x * near;
                far4 += g.x * far;
                near5 += g.y * near;
                far5 += g.y * far;
                near6 += g.z * near;
                far6 += g.z * far;
                near7 += g.w * near;
                far7 += g.w * far;
            }
        }
    }
    let slice = index / LANES;
    near0 = fold(near0, slice, lane);
    far0 = fold(far0, slice, lane);
    near1 = fold(near1, slice, lane);
    far1 = fold(far1, slice, lane);
    near2 = fold(near2, slice, lane);
    far2 = fold(far2, slice, lane);
    near3 = fold(near3, slice, lane);
    far3 = fold(far3, slice, lane);
    if (TALL) {
        near4 = fold(near4, slice, lane);
        far4 = fold(far4, slice, lane);
        near5 = fold(near5, slice, lane);
        far5 = fold(far5, slice, lane);
        near6 = fold(near6, slice, lane);
        far6 = fold(far6, slice, lane);
        near7 = fold(near7, slice, lane);
        far7 = fold(far7, slice, lane);
    }
    if (slice > 0u) { return; }
    let y0 = group.z * params.y_size;
    let y_row = row0 + row * 4u;
    let y_column = column0 + column * 4u;
    store_forward(y0, rows, y_row + 0u, y_column, near0);
    store_forward(y0, rows, y_row + 0u, y_column + 32u, far0);
    store_forward(y0, rows, y_row + 1u, y_column, near1);
    store_forward(y0, rows, y_row + 1u, y_column + 32u, far1);
    store_forward(y0, rows, y_row + 2u, y_column, near2);
    store_forward(y0, rows, y_row + 2u, y_column + 32u, far2);
    store_forward(y0, rows, y_row + 3u, y_column, near3);
    store_forward(y0, rows, y_row + 3u, y_column + 32u, far3);
    if (TALL) {
        store_forward(y0, rows, y_row + 32u, y_column, near4);
        store_forward(y0, rows, y_row + 32u, y_column + 32u, far4);
        store_forward(y0, rows, y_row + 33u, y_column, near5);
        store_forward(y0, rows, y_row + 33u, y_column + 32u, far5);
        store_forward(y0, rows, y_row + 34u, y_column, near6);
        store_forward(y0, rows, y_row + 34u, y_column + 32u, far6);
        store_forward(y0, rows, y_row + 35u, y_column, near7);
        store_forward(y0, rows, y_row + 35u, y_column + 32u, far7);
    }
}

@compute @workgroup_size(LANES * SLICES)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    let rows = active_rows();
    let row0 = group.y * TILE_ROWS;
    let column0 = group.x * 64u;
    if (row0 >= rows) { return; }
    let lane = index % LANES;
    let depth0 = index / LANES * DEPTH;
    let row = lane / 8u;        // in vectors of four, as `column`
    let column = lane % 8u;
    var near0 = vec4f(0.0);
    var far0 = vec4f(0.0);
    var near1 = vec4f(0.0);
    var far1 = vec4f(0.0);
    var near2 = vec4f(0.0);
    var far2 = vec4f(0.0);
    var near3 = vec4f(0.0);
    var far3 = vec4f(0.0);
    var near4 = vec4f(0.0);
    var far4 = vec4f(0.0);
    var near5 = vec4f(0.0);
    var far5 = vec4f(0.0);
    var near6 = vec4f(0.0);
    var far6 = vec4f(0.0);
    var near7 = vec4f(0.0);
    var far7 = vec4f(0.0);
    let begin = group.z * params.part;
    let end = min(begin + params.part, params.inner);
    // The next trip's values are on their way from memory while this trip's are multiplied.
    var next = load_backward(begin + depth0, end, lane, rows, row0, column0);
    for (var k0 = begin; k0 < end; k0 += SPAN) {
        workgroupBarrier();
        put_left(depth0, lane, next);
        put_right_backward(depth0, lane, next);
        workgroupBarrier();
        next = load_backward(k0 + SPAN + depth0, end, lane, rows, row0, column0);
        for (var k = 0u; k < DEPTH; k++) {
            let near = right[(depth0 + k) * RIGHT + column];
            let far = right[(depth0 + k) * RIGHT + column + 8u];
            let f = left[(depth0 + k) * LEFT + row];
            near0 += f.x * near;
            far0 += f.x * far;
            near1 += f.y * near;
            far1 += f.y * far;
            near2 += f.z * near;
            far2 += f.z * far;
            near3 += f.w * near;
            far3 += f.w * far;
            if (TALL) {
                let g = left[(depth0 + k) * LEFT + row + 8u];
                near4 += g.x * near;
                far4 += g.x * far;
                near5 += g.y * near;
                far5 += g.y * far;
                near6 += g.z * near;
                far6 += g.z * far;
                near7 += g.w * near;
                far7 += g.w * far;
            }
        }
    }
    let rank = select(0u, params.rank_total, group.z == 0u);
    for (var r0 = 0u; r0 < rank; r0 += SPAN) {
        workgroupBarrier();
        load_lora(r0 + depth0, depth0, lane, rows, row0, column0, false);
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let near = right[(depth0 + k) * RIGHT + column];
            let far = right[(depth0 + k) * RIGHT + column + 8u];
            let f = left[(depth0 + k) * LEFT + row];
            near0 += f.x * near;
            far0 += f.x * far;
            near1 += f.y * near;
            far1 += f.y * far;
            near2 += f.z * near;
            far2 += f.z * far;
            near3 += f.w * near;
            far3 += f.w * far;
            if (TALL) {
                let g = left[(depth0 + k) * LEFT + row + 8u];
                near4 += g.x * near;
                far4 += g.x * far;
                near5 += g.y * near;
                far5 += g.y * far;
                near6 += g.z * near;
                far6 += g.z * far;
                near7 += g.w * near;
                far7 += g.w * far;
            }
        }
    }
    let slice = index / LANES;
    near0 = fold(near0, slice, lane);
    far0 = fold(far0, slice, lane);
    near1 = fold(near1, slice, lane);
    far1 = fold(far1, slice, lane);
    near2 = fold(near2, slice, lane);
    far2 = fold(far2, slice, lane);
    near3 = fold(near3, slice, lane);
    far3 = fold(far3, slice, lane);
    if (TALL) {
        near4 = fold(near4, slice, lane);
        far4 = fold(far4, slice, lane);
        near5 = fold(near5, slice, lane);
        far5 = fold(far5, slice, lane);
        near6 = fold(near6, slice, lane);
        far6 = fold(far6, slice, lane);
        near7 = fold(near7, slice, lane);
        far7 = fold(far7, slice, lane);
    }
    if (slice > 0u) { return; }
    let y0 = group.z * params.y_size;
    let y_row = row0 + row * 4u;
    let y_column = column0 + column * 4u;
    store_backward(y0, rows, y_row + 0u, y_column, near0);
    store_backward(y0, rows, y_row + 0u, y_column + 32u, far0);
    store_backward(y0, rows, y_row + 1u, y_column, near1);
    store_backward(y0, rows, y_row + 1u, y_column + 32u, far1);
    store_backward(y0, rows, y_row + 2u, y_column, near2);
    store_backward(y0, rows, y_row + 2u, y_column + 32u, far2);
    store_backward(y0, rows, y_row + 3u, y_column, near3);
    store_backward(y0, rows, y_row + 3u, y_column + 32u, far3);
    if (TALL) {
        store_backward(y0, rows, y_row + 32u, y_column, near4);
        store_backward(y0, rows, y_row + 32u, y_column + 32u, far4);
        store_backward(y0, rows, y_row + 33u, y_column, near5);
        store_backward(y0, rows, y_row + 33u, y_column + 32u, far5);
        store_backward(y0, rows, y_row + 34u, y_column, near6);
        store_backward(y0, rows, y_row + 34u, y_column + 32u, far6);
        store_backward(y0, rows, y_row + 35u, y_column, near7);
        store_backward(y0, rows, y_row + 35u, y_column + 32u, far7);
    }
}

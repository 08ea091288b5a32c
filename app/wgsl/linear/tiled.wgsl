// linear, for GPUs: tiles of TILE_ROWS (256, 128, 64 or 32) x 64 through workgroup memory.
// LANES invocations (64, or 128 for the larger ones) make a tile, each 4, 8 or 16 rows by 8 columns of it. Where tiles are
// too few to fill a GPU the inner sum is split among SLICES such groups, whose results are added in order: the bits
// depend on the constants (given by the op from the shape alone), not on the device's scheduling.
// An invocation's patch is 32 named vectors, rows 0-15 by (near, far) columns: arrays that compilers do not unroll would
// go to memory, ten times slower. Rows past a tile's are never used and cost nothing. The parts that forward and backward
// share are text, not functions, for the same reason: linear_multiply and linear_finish.
// The op puts linear_vectors or linear_scalars before this, and the weight's loader.
const DEPTH = 16u;                        // of the inner sum, per trip and slice
const LEFT = TILE_ROWS / 4u + 1u;         // vectors of a depth: four rows (or columns) each, one more to spread the banks
const RIGHT = 17u;
const ROW_LANES = LANES / 8u;
const SPAN = DEPTH * SLICES;              // of the inner sum, per trip of all slices
const TALL = TILE_ROWS > 32u;
const TALLEST = TILE_ROWS > LANES;        // an invocation has sixteen rows, and brings eight

var<workgroup> left: array<vec4f, SLICES * DEPTH * LEFT>;
var<workgroup> right: array<vec4f, SLICES * DEPTH * RIGHT>;

// Where a quad of columns lies in the result: its first row, what lies between rows, and how many of the four there are.
struct Place { at: u32, stride: u32, count: u32 }

fn place_forward(y0: u32, column: u32) -> Place {
    let layer = layer_of(min(column, params.columns - 1u));
    return Place(y0 + layer.base + column - layer.start, layer.width, max(params.columns, column) - column);
}

fn place_backward(y0: u32, column: u32) -> Place {
    return Place(y0 + column, params.columns, max(params.columns, column) - column);
}

fn store_near_far(rows: u32, row: u32, near_place: Place, far_place: Place, near: vec4f, far: vec4f) {
    if (row >= rows) { return; }
    if (near_place.count > 0u) { store_four(near_place.at + row * near_place.stride, near_place.count, near); }
    if (far_place.count > 0u) { store_four(far_place.at + row * far_place.stride, far_place.count, far); }
}

// Adds the slices' vectors in order, through `right`; the sums are right in slice 0.
struct Four { x: vec4f, y: vec4f, z: vec4f, w: vec4f }
fn fold(value: Four, slice: u32, lane: u32) -> Four {
    workgroupBarrier();
    if (slice > 0u) {
        let at = (slice - 1u) * 4u * LANES + lane;
        right[at] = value.x;
        right[at + LANES] = value.y;
        right[at + 2u * LANES] = value.z;
        right[at + 3u * LANES] = value.w;
    }
    workgroupBarrier();
    var total = value;
    if (slice == 0u) {
        for (var s = 0u; s < SLICES - 1u; s++) {
            let at = s * 4u * LANES + lane;
            total.x += right[at];
            total.y += right[at + LANES];
            total.z += right[at + 2u * LANES];
            total.w += right[at + 3u * LANES];
        }
    }
    return total;
}

// What an invocation brings in one trip: four depths of four rows (and, TALLEST, of four others), and four quads of the weight as they are stored: to
// decode them at once would mean to wait for them, and they are to be on their way while a trip is multiplied.
struct Load { a0: vec4f, a1: vec4f, a2: vec4f, a3: vec4f, a4: vec4f, a5: vec4f, a6: vec4f, a7: vec4f, b0: vec4u, b1: vec4u, b2: vec4u, b3: vec4u }

fn x_quad(row: u32, rows: u32, quad: u32, quads: u32) -> vec4f {
    if (row >= rows) { return vec4f(0.0); }
    return x[row * quads + quad];
}

fn column_words(column: u32, quad: u32, quads: u32) -> vec4u {
    if (column >= params.columns) { return vec4u(0u); }
    return weight_words(params.weight_row0 + column, quad, quads);
}

// Depths k .. k + 15 (those below `end`): this invocation's are k + 4 (lane % 4) and on, of rows and columns 4 (lane / 4).
fn load_forward(k: u32, end: u32, lane: u32, rows: u32, row0: u32, column0: u32) -> Load {
    var next: Load;
    let quads = params.inner / 4u;
    let depth = k + lane % 4u * 4u;
    if (depth >= end) { return next; }
    if (lane < TILE_ROWS) {
        let row = row0 + lane / 4u * 4u;
        next.a0 = x_quad(row, rows, depth / 4u, quads);
        next.a1 = x_quad(row + 1u, rows, depth / 4u, quads);
        next.a2 = x_quad(row + 2u, rows, depth / 4u, quads);
        next.a3 = x_quad(row + 3u, rows, depth / 4u, quads);
        if (TALLEST) {
            next.a4 = x_quad(row + LANES, rows, depth / 4u, quads);
            next.a5 = x_quad(row + LANES + 1u, rows, depth / 4u, quads);
            next.a6 = x_quad(row + LANES + 2u, rows, depth / 4u, quads);
            next.a7 = x_quad(row + LANES + 3u, rows, depth / 4u, quads);
        }
    }
    if (lane < 64u) {
        let column = column0 + lane / 4u * 4u;
        next.b0 = column_words(column, depth / 4u, quads);
        next.b1 = column_words(column + 1u, depth / 4u, quads);
        next.b2 = column_words(column + 2u, depth / 4u, quads);
        next.b3 = column_words(column + 3u, depth / 4u, quads);
    }
    return next;
}

fn dy_quad(row: u32, rows: u32, at: u32, stride: u32, count: u32) -> vec4f {
    if (row >= rows) { return vec4f(0.0); }
    return dy_four(at + row * stride, count);
}

fn row_words(n: u32, end: u32, quad: u32, quads: u32) -> vec4u {
    if (n >= end) { return vec4u(0u); }
    return weight_words(params.weight_row0 + n, quad, quads);
}

// The same depths of dy; of the weight, depths k + lane / 16 + 0, 4, 8, 12, one quad of columns each.
fn load_backward(k: u32, end: u32, lane: u32, rows: u32, row0: u32, column0: u32) -> Load {
    var next: Load;
    if (lane < TILE_ROWS) {
        let n = k + lane % 4u * 4u;
        let count = max(end, n) - n;
        let layer = layer_of(n);
        let at = layer.base + n - layer.start;
        let row = row0 + lane / 4u * 4u;
        next.a0 = dy_quad(row, rows, at, layer.width, count);
        next.a1 = dy_quad(row + 1u, rows, at, layer.width, count);
        next.a2 = dy_quad(row + 2u, rows, at, layer.width, count);
        next.a3 = dy_quad(row + 3u, rows, at, layer.width, count);
        if (TALLEST) {
            next.a4 = dy_quad(row + LANES, rows, at, layer.width, count);
            next.a5 = dy_quad(row + LANES + 1u, rows, at, layer.width, count);
            next.a6 = dy_quad(row + LANES + 2u, rows, at, layer.width, count);
            next.a7 = dy_quad(row + LANES + 3u, rows, at, layer.width, count);
        }
    }
    let quads = params.columns / 4u;
    let quad = column0 / 4u + lane % 16u;
    if (lane < 64u && quad < quads) {
        let depth = k + lane / 16u;
        next.b0 = row_words(depth, end, quad, quads);
        next.b1 = row_words(depth + 4u, end, quad, quads);
        next.b2 = row_words(depth + 8u, end, quad, quads);
        next.b3 = row_words(depth + 12u, end, quad, quads);
    }
    return next;
}

// Four lines of four depths become four depths of four lines.
fn put_left(depth0: u32, lane: u32, half: u32, a0: vec4f, a1: vec4f, a2: vec4f, a3: vec4f) {
    if (lane >= TILE_ROWS) { return; }
    let at = (depth0 + lane % 4u * 4u) * LEFT + lane / 4u + half;
    left[at] = vec4f(a0.x, a1.x, a2.x, a3.x);
    left[at + LEFT] = vec4f(a0.y, a1.y, a2.y, a3.y);
    left[at + 2u * LEFT] = vec4f(a0.z, a1.z, a2.z, a3.z);
    left[at + 3u * LEFT] = vec4f(a0.w, a1.w, a2.w, a3.w);
}

fn put_right_forward(depth0: u32, lane: u32, b0: vec4f, b1: vec4f, b2: vec4f, b3: vec4f) {
    if (lane >= 64u) { return; }
    let at = (depth0 + lane % 4u * 4u) * RIGHT + lane / 4u;
    right[at] = vec4f(b0.x, b1.x, b2.x, b3.x);
    right[at + RIGHT] = vec4f(b0.y, b1.y, b2.y, b3.y);
    right[at + 2u * RIGHT] = vec4f(b0.z, b1.z, b2.z, b3.z);
    right[at + 3u * RIGHT] = vec4f(b0.w, b1.w, b2.w, b3.w);
}

fn put_right_backward(depth0: u32, lane: u32, b0: vec4f, b1: vec4f, b2: vec4f, b3: vec4f) {
    if (lane >= 64u) { return; }
    let at = (depth0 + lane / 16u) * RIGHT + lane % 16u;
    right[at] = b0;
    right[at + 4u * RIGHT] = b1;
    right[at + 8u * RIGHT] = b2;
    right[at + 12u * RIGHT] = b3;
}

fn lora_in_quad(row: u32, rows: u32, r: u32) -> vec4f {
    if (row >= rows) { return vec4f(0.0); }
    return lora_in_four(row, r);
}

// Ranks r .. r + 3 of an output: zero where output and rank are of different layers.
fn b_quad(column: u32, r: u32) -> vec4f {
    if (column >= params.columns) { return vec4f(0.0); }
    return b_four(params.lora_row0 + column, r, params.rank0 + layer_of(column).index * params.rank);
}

fn a_quad(r: u32, quad: u32) -> vec4f {
    if (r >= params.rank_total || 4u * quad >= params.columns) { return vec4f(0.0); }
    return a_four(r, quad);
}

// The adapter's ranks r .. r + 15 into the tiles, as depths of them.
fn put_lora_left(r: u32, depth0: u32, lane: u32, rows: u32, row0: u32) {
    let row = row0 + lane / 4u * 4u;
    let first = r + lane % 4u * 4u;
    put_left(depth0, lane, 0u, lora_in_quad(row, rows, first), lora_in_quad(row + 1u, rows, first),
             lora_in_quad(row + 2u, rows, first), lora_in_quad(row + 3u, rows, first));
    if (TALLEST) {
        let below = row + LANES;
        put_left(depth0, lane, LANES / 4u, lora_in_quad(below, rows, first), lora_in_quad(below + 1u, rows, first),
                 lora_in_quad(below + 2u, rows, first), lora_in_quad(below + 3u, rows, first));
    }
}

fn put_lora_forward(r: u32, depth0: u32, lane: u32, rows: u32, row0: u32, column0: u32) {
    put_lora_left(r, depth0, lane, rows, row0);
    let column = column0 + lane / 4u * 4u;
    let first = r + lane % 4u * 4u;
    put_right_forward(depth0, lane, b_quad(column, first), b_quad(column + 1u, first), b_quad(column + 2u, first),
                      b_quad(column + 3u, first));
}

fn put_lora_backward(r: u32, depth0: u32, lane: u32, rows: u32, row0: u32, column0: u32) {
    put_lora_left(r, depth0, lane, rows, row0);
    let quad = column0 / 4u + lane % 16u;
    let first = r + lane / 16u;
    put_right_backward(depth0, lane, a_quad(first, quad), a_quad(first + 4u, quad), a_quad(first + 8u, quad),
                       a_quad(first + 12u, quad));
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
    var near8 = vec4f(0.0);
    var far8 = vec4f(0.0);
    var near9 = vec4f(0.0);
    var far9 = vec4f(0.0);
    var near10 = vec4f(0.0);
    var far10 = vec4f(0.0);
    var near11 = vec4f(0.0);
    var far11 = vec4f(0.0);
    var near12 = vec4f(0.0);
    var far12 = vec4f(0.0);
    var near13 = vec4f(0.0);
    var far13 = vec4f(0.0);
    var near14 = vec4f(0.0);
    var far14 = vec4f(0.0);
    var near15 = vec4f(0.0);
    var far15 = vec4f(0.0);
    let begin = group.z * params.part;
    let end = min(begin + params.part, params.inner);
    var next = load_forward(begin + depth0, end, lane, rows, row0, column0);
    for (var k0 = begin; k0 < end; k0 += SPAN) {
        let quad = (k0 + depth0) / 4u + lane % 4u;
        workgroupBarrier();
        put_left(depth0, lane, 0u, next.a0, next.a1, next.a2, next.a3);
        if (TALLEST) { put_left(depth0, lane, LANES / 4u, next.a4, next.a5, next.a6, next.a7); }
        put_right_forward(depth0, lane, weight_values(next.b0, quad), weight_values(next.b1, quad),
                      weight_values(next.b2, quad), weight_values(next.b3, quad));
        workgroupBarrier();
        next = load_forward(k0 + SPAN + depth0, end, lane, rows, row0, column0);
// include: linear/multiply.wgsl
    }
    // Only the ranks of the layers that this tile is of; the first part of a sum takes them.
    let rank_first = (params.rank0 + layer_of(column0).index * params.rank) / 4u * 4u;
    let rank_end = params.rank0 + (layer_of(min(column0 + 63u, params.columns - 1u)).index + 1u) * params.rank;
    for (var r = rank_first; r < select(0u, rank_end, group.z == 0u); r += SPAN) {
        workgroupBarrier();
        put_lora_forward(r + depth0, depth0, lane, rows, row0, column0);
        workgroupBarrier();
// include: linear/multiply.wgsl
    }
    let y0 = group.z * params.y_size;
    let near_place = place_forward(y0, column0 + column * 4u);
    let far_place = place_forward(y0, column0 + column * 4u + 32u);
// include: linear/finish.wgsl
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
    var near8 = vec4f(0.0);
    var far8 = vec4f(0.0);
    var near9 = vec4f(0.0);
    var far9 = vec4f(0.0);
    var near10 = vec4f(0.0);
    var far10 = vec4f(0.0);
    var near11 = vec4f(0.0);
    var far11 = vec4f(0.0);
    var near12 = vec4f(0.0);
    var far12 = vec4f(0.0);
    var near13 = vec4f(0.0);
    var far13 = vec4f(0.0);
    var near14 = vec4f(0.0);
    var far14 = vec4f(0.0);
    var near15 = vec4f(0.0);
    var far15 = vec4f(0.0);
    let begin = group.z * params.part;
    let end = min(begin + params.part, params.inner);
    var next = load_backward(begin + depth0, end, lane, rows, row0, column0);
    for (var k0 = begin; k0 < end; k0 += SPAN) {
        let quad = column0 / 4u + lane % 16u;
        workgroupBarrier();
        put_left(depth0, lane, 0u, next.a0, next.a1, next.a2, next.a3);
        if (TALLEST) { put_left(depth0, lane, LANES / 4u, next.a4, next.a5, next.a6, next.a7); }
        put_right_backward(depth0, lane, weight_values(next.b0, quad), weight_values(next.b1, quad),
                      weight_values(next.b2, quad), weight_values(next.b3, quad));
        workgroupBarrier();
        next = load_backward(k0 + SPAN + depth0, end, lane, rows, row0, column0);
// include: linear/multiply.wgsl
    }
    // The first part of a sum takes the ranks.
    for (var r = 0u; r < select(0u, params.rank_total, group.z == 0u); r += SPAN) {
        workgroupBarrier();
        put_lora_backward(r + depth0, depth0, lane, rows, row0, column0);
        workgroupBarrier();
// include: linear/multiply.wgsl
    }
    let y0 = group.z * params.y_size;
    let near_place = place_backward(y0, column0 + column * 4u);
    let far_place = place_backward(y0, column0 + column * 4u + 32u);
// include: linear/finish.wgsl
}

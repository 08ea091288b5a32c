// Part of linear/tiled.wgsl: adds up the slices and stores the patch.
    let slice = index / LANES;
    if (SLICES > 1u) {
        let a = fold(Four(near0, far0, near1, far1), slice, lane);
        let b = fold(Four(near2, far2, near3, far3), slice, lane);
        near0 = a.x; far0 = a.y; near1 = a.z; far1 = a.w;
        near2 = b.x; far2 = b.y; near3 = b.z; far3 = b.w;
        if (TALL) {
            let c = fold(Four(near4, far4, near5, far5), slice, lane);
            let d = fold(Four(near6, far6, near7, far7), slice, lane);
            near4 = c.x; far4 = c.y; near5 = c.z; far5 = c.w;
            near6 = d.x; far6 = d.y; near7 = d.z; far7 = d.w;
        }
        if (slice > 0u) { return; }
    }
    let y_row = row0 + row * 4u;
    store_near_far(rows, y_row + 0u, near_place, far_place, near0, far0);
    store_near_far(rows, y_row + 1u, near_place, far_place, near1, far1);
    store_near_far(rows, y_row + 2u, near_place, far_place, near2, far2);
    store_near_far(rows, y_row + 3u, near_place, far_place, near3, far3);
    if (TALL) {
        let below = y_row + 4u * ROW_LANES;
        store_near_far(rows, below + 0u, near_place, far_place, near4, far4);
        store_near_far(rows, below + 1u, near_place, far_place, near5, far5);
        store_near_far(rows, below + 2u, near_place, far_place, near6, far6);
        store_near_far(rows, below + 3u, near_place, far_place, near7, far7);
    }
    if (TALLEST) {
        let below = y_row + 8u * ROW_LANES;
        store_near_far(rows, below + 0u, near_place, far_place, near8, far8);
        store_near_far(rows, below + 1u, near_place, far_place, near9, far9);
        store_near_far(rows, below + 2u, near_place, far_place, near10, far10);
        store_near_far(rows, below + 3u, near_place, far_place, near11, far11);
        store_near_far(rows, below + 4u * ROW_LANES + 0u, near_place, far_place, near12, far12);
        store_near_far(rows, below + 4u * ROW_LANES + 1u, near_place, far_place, near13, far13);
        store_near_far(rows, below + 4u * ROW_LANES + 2u, near_place, far_place, near14, far14);
        store_near_far(rows, below + 4u * ROW_LANES + 3u, near_place, far_place, near15, far15);
    }

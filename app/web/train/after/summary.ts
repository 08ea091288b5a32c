// What came of the run that the card shows, in Python's words; and its report.

import { computed, effect, signal } from "@preact/signals";
import { train } from "../../link/workers";
import type { RunSummedUp } from "../../protocol";
import type { Area } from "../../store/bus";
import { card } from "../result";

export const summary = signal<RunSummedUp | null>(null);

const shownId = computed(() => card.value?.adapter.id ?? null);
const ask = (): void => {
  const id = shownId.peek();
  if (id) train.send("sum_up_run", { id });
};

effect(() => {
  void shownId.value;
  summary.value = null;
  ask();
});

export const summaryArea: Area = {
  train: {
    run_summed_up: (event) => {
      if (event.id === shownId.peek()) summary.value = event;
    },
    adapter_list: ask, // answers may have been kept with it, or another name
  },
  own: { train_anew: ask },
};

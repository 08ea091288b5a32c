// The adapters that are kept: listed, renamed, deleted with undo, downloaded, added from files.

import { saveFile } from "../../dom";
import { train } from "../../link/workers";
import type { NamedBlob } from "../../protocol";
import type { Area } from "../../store/bus";
import { adapters } from "../../store/chat";
import { showProblem, showRemarks, toast } from "../../store/problems";
import { isRunning } from "../../store/train";
import { common, shelfText } from "../../text";

const deleting = new Set<string>(); // ids of adapters that the worker was told to delete

/** Add an adapter from files. */
export function addAdapter(files: readonly NamedBlob[]): void {
  if (isRunning.peek()) return toast(shelfText.notDuringRun);
  showProblem("adapter-problem", null);
  train.send("import_adapter", { files });
}

export const downloadAdapter = (id: string): void => train.send("export_adapter", { id });
export const renameAdapter = (id: string, name: string): void => train.send("rename_adapter", { id, name });

export function deleteAdapter(id: string): void {
  if (deleting.has(id)) return; // pressed twice
  deleting.add(id);
  train.send("delete_adapter", { id });
}

export const shelfArea: Area = {
  train: {
    adapter_list: (event) => {
      adapters.value = event.adapters;
      deleting.clear();
    },
    adapter_exported: ({ file_name, data }) => saveFile(file_name, data as BlobPart),
    adapter_imported: ({ adapter: { name }, remarks }) => {
      toast(shelfText.imported(name));
      if (remarks.length) showRemarks("adapter-problem", shelfText.remarks(name), remarks);
    },
    adapter_deleted: ({ id, name }) => {
      toast(shelfText.deleted(name), { label: common.undo, run: () => train.send("restore_adapter", { id }) });
    },
    failed: (event) => {
      if (event.where !== "adapter") return;
      deleting.clear(); // one that could not be deleted may be told so again
      showProblem("adapter-problem", event);
    },
  },
  chat: {
    failed: (event) => {
      if (event.where === "adapter") showProblem("adapter-problem", event);
    },
  },
};

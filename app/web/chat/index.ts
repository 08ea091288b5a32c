// Step 3, the adapters and the dialog for another model: what they hear, and what of them is rendered where.

import type { Root } from "../shell/parts";
import type { Area } from "../store/bus";
import { baseModelArea } from "./adapters/base_model";
import { shelfArea } from "./adapters/shelf";
import { Shelf } from "./adapters/shelf_panel";
import { appliedArea } from "./applied";
import { changesArea } from "./changes/changes";
import { comparisonArea } from "./compare/comparison";
import { CompareTool, LogOrComparisons } from "./compare/panel";
import { ChatTools, Composer } from "./composer";
import { conversationArea } from "./conversation";
import { engineArea } from "./engine";
import { keptArea } from "./kept/kept";
import { KeptConversations } from "./kept/panel";
import { filesArea } from "./mix/files";
import { mixArea } from "./mix/mix";
import { Mix } from "./mix/panel";
import { candidateArea } from "./models/candidate";
import { ModelDialog } from "./models/dialog";
import { hubArea } from "./models/hub";
import { TakeDialog } from "./taking/dialog";
import { takeArea } from "./taking/take";
import { AdapterSwitch, ReplyLine } from "./reply_settings";

export { addAdapter } from "./adapters/shelf";
export { offerModel } from "./models/candidate";
export { setUpConversations } from "./kept/kept";
export { setUpReplyFields } from "./reply_settings";

// What is being written ends before the chat gets another model: whoever hears of that stands before the engine.
export const chatAreas: readonly Area[] = [
  shelfArea, appliedArea, filesArea, mixArea, conversationArea, comparisonArea, changesArea, engineArea, keptArea, baseModelArea, hubArea,
  candidateArea, takeArea,
];
export const chatRoots: readonly Root[] = [
  ["adapters-root", Shelf],
  ["compare-tool-root", CompareTool],
  ["chat-tools-root", ChatTools],
  ["kept-root", KeptConversations],
  ["mix-root", Mix],
  ["adapter-switch-root", AdapterSwitch],
  ["log-root", LogOrComparisons],
  ["composer-root", Composer],
  ["reply-line-root", ReplyLine],
  ["model-dialog-root", ModelDialog],
  ["take-dialog-root", TakeDialog],
];

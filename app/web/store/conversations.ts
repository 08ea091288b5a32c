// What the page knows of the conversations that are kept, and which of them is open.

import { signal } from "@preact/signals";
import type { ConversationInfo } from "../protocol";

export const conversations = signal<readonly ConversationInfo[] | null>(null); // null: not known yet
export const whyNotKept = signal(""); // why they will not outlive the page; "" where they will
export const openId = signal(""); // of the conversation that is open; "": it is not kept yet

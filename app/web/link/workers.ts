// The links to the two workers. Who hears what they say: store/bus.ts. The chat's begins later (chat/engine.ts).

import { WorkerLink } from "./link";

export const train = new WorkerLink("train");
export const chat = new WorkerLink("chat");

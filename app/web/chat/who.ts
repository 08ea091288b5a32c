// What those who write are called.

import { adapters, type AdapterUse } from "../store/chat";
import { chatText } from "../text";

/** By the names that adapters have now; none of them: the base model. */
export function whoText(by: readonly AdapterUse[]): string {
  const now = (one: AdapterUse): string => adapters.value?.find(({ id }) => id === one.id)?.name ?? one.name;
  return by.map((one) => chatText.withStrength(now(one), one.strength)).join(" + ") || chatText.baseModel;
}

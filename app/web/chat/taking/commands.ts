// How an exported adapter is used, as commands for a terminal; and what it is called.

import type { ExportKind } from "../../store/exports";
import { takeText } from "../../text";

/** A command, or a few lines of Python. `words` say what it does. */
export interface Step {
  readonly words: string;
  readonly code: string;
}

/** What the commands name. `base` is OWNER/NAME, "" where that is not known; `archive` a download that is unpacked first. */
export interface Names {
  readonly name: string;
  readonly base: string;
  readonly archive: string;
  readonly isFolder: boolean; // it lies in a folder, not in a download
  readonly model: string; // what lora-lab calls the open model, "" for the one that it takes when none is named
}

/** A name for files, which every system and every shell takes as it is. */
export function fileName(adapter: string, kind: ExportKind): string {
  const plain = adapter.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const slug = plain.replace(/[^a-z0-9]+/g, "-").replace(/^-/, "").slice(0, 60).replace(/-$/, "");
  return `${slug || "adapter"}-${kind}`;
}

/** The name of a model on the hub; "" where `said` is none. */
export const hubName = (said: string): string => (/^[\w.-]+\/[\w.-]+$/.test(said) && !/\.(gguf|safetensors)$/i.test(said) ? said : "");

/** What is done with an export, one step after the other. */
export function stepsOf(kind: ExportKind, { name, base, archive, isFolder, model }: Names): readonly Step[] {
  const words = takeText.steps;
  const own = base || takeText.base;
  const file = isFolder ? `${name}/model.gguf` : `${name}.gguf`;
  const unpack: Step[] = archive.endsWith(".tar") ? [{ words: words.unpack, code: `tar -xf ${archive}` }] : [];
  if (kind === "ollama") {
    return [
      ...unpack,
      { words: words.ollamaCreate, code: `cd ${name}\nollama create ${name} -f Modelfile` },
      { words: words.chat, code: `ollama run ${name}` },
    ];
  }
  if (kind === "gguf") return [{ words: words.chat, code: `llama-cli -m ${file}` }];
  if (kind === "gguf-adapter") return [{ words: words.withBase, code: `llama-cli -m BASE.gguf --lora ${file}` }];
  if (kind === "mlx") return [...unpack, { words: words.mlx, code: `mlx_lm.generate --model ${own} --adapter-path ${name} --prompt "Hello"` }];
  if (kind === "merged") {
    return [
      ...unpack,
      { words: words.transformers, code: asking(name) },
      { words: words.serve, code: `vllm serve ./${name}` },
    ];
  }
  const held = archive || name;
  return [
    { words: words.push, code: `lora-lab push ${held} OWNER/NAME${model && ` --model ${model}`}` },
    ...(archive ? [{ words: words.unpack, code: `python3 -m zipfile -e ${archive} ${name}` }] : []),
    { words: words.peft, code: loading(own, name) },
  ];
}

const asking = (name: string): string =>
  `from transformers import pipeline

chat = pipeline("text-generation", ${JSON.stringify(name)})
said = chat([{"role": "user", "content": "Hello"}], max_new_tokens=100)
print(said[0]["generated_text"][-1]["content"])`;

const loading = (base: string, name: string): string =>
  `from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(${JSON.stringify(base)})
model = PeftModel.from_pretrained(model, ${JSON.stringify(name)})`;

// Runs @huggingface/tokenizers as the worker does. Takes the module's path as its argument and, on standard input, JSON:
//   {tokenizer_json, texts: [string], options}; prints the texts' tokens, [[number]].
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { Tokenizer } = await import(pathToFileURL(process.argv[2]).href);
const { tokenizer_json, texts, options } = JSON.parse(readFileSync(0, "utf8"));
const tokenizer = new Tokenizer(tokenizer_json, {});
process.stdout.write(JSON.stringify(texts.map((text) => tokenizer.encode(text, options).ids)));

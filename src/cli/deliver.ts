import type { Warning } from "../core/warnings.ts";
import { probeTextFile, writeTextFile } from "../io/text-file.ts";
import { envelope, type InputFacts } from "../report/json.ts";
import type { ResultFlags } from "./context.ts";
import type { Terminal } from "./terminal.ts";

/** A finished job in every form it can be asked for. */
export interface Delivery {
  readonly kind: string;
  readonly inputs: readonly InputFacts[];
  readonly warnings: readonly Warning[];
  readonly result: unknown;
  /** For people; undefined when standard output is taken. */
  readonly text: string | undefined;
}

type DeliveryFlags = ResultFlags & { readonly force?: boolean };

/**
 * Makes sure before a long job that its result can be written, and not over the job's own files.
 * @throws UsageError, IoError
 */
export function prepareDelivery({ jsonFile, force = false }: DeliveryFlags, others: readonly string[]): void {
  if (jsonFile !== undefined) probeTextFile(jsonFile, force, others);
}

/** Prints text or JSON, and writes the JSON beside it when asked. */
export function deliver(
  terminal: Terminal,
  { json, jsonFile, force = false }: DeliveryFlags,
  { kind, inputs, warnings, result, text }: Delivery,
  others: readonly string[],
): void {
  const document = () => envelope(kind, inputs, warnings, result);
  if (jsonFile !== undefined) writeTextFile(jsonFile, document(), force, others);
  if (json) terminal.stdout.write(document());
  else if (text !== undefined) terminal.stdout.write(text);
}

import { UsageError } from "../core/errors.ts";
import type { Warning } from "../core/warnings.ts";
import type { FileIdentity } from "../io/file.ts";
import { probeTextFile, type TextFileOptions, writeTextFile } from "../io/text-file.ts";
import { envelope, type InputFacts } from "../report/json.ts";
import type { ResultFlags } from "./context.ts";
import type { Terminal } from "./terminal.ts";

/** A file that was read, with all that were opened for it, siblings that nobody named among them. */
type DeliveredInput = InputFacts & { readonly identities: readonly FileIdentity[] };

/** A finished job in every form it can be asked for. */
export interface Delivery {
  readonly kind: string;
  readonly inputs: readonly DeliveredInput[];
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
export function prepareDelivery(flags: DeliveryFlags, others: readonly string[]): void {
  const { jsonFile } = flags;
  if (jsonFile === "-") {
    throw new UsageError("--json-file takes the name of a file", {
      hint: "--json prints the result on standard output",
    });
  }
  if (jsonFile !== undefined) probeTextFile(jsonFile, jsonFileOptions(flags, others));
}

const jsonFileOptions = ({ force = false }: DeliveryFlags, others: readonly string[]): TextFileOptions => ({
  force,
  others,
  option: "--json-file",
});

/** Prints text or JSON, and writes the JSON beside it when asked. */
export function deliver(
  terminal: Terminal,
  flags: DeliveryFlags,
  { kind, inputs, warnings, result, text }: Delivery,
  others: readonly string[],
): void {
  const { json, jsonFile } = flags;
  const document = () => envelope(kind, inputs, warnings, result);
  if (jsonFile !== undefined) {
    const options = jsonFileOptions(flags, others);
    const read = inputs.flatMap(({ identities }) => identities);
    writeTextFile(jsonFile, document(), { ...options, inputs: read });
  }
  if (json) terminal.stdout.write(document());
  else if (text !== undefined) terminal.stdout.write(text);
}

import type { Command } from "commander";
import { isDescription, parseRamMap } from "../../core/ram-map.ts";
import { shellWord } from "../../core/text.ts";
import type { DumpNaming } from "../../jobs/input.ts";

/** Options of every command that reads a machine's dump. */
export interface DumpFlags {
  readonly part: readonly string[];
  readonly map: readonly string[];
}

const collect = (text: string, before: readonly string[]): string[] => [...before, text];

export const withDumpOptions = (command: Command): Command =>
  command
    .option("--part <file>", "further file of a dump in several (split, disk set); repeatable", collect, [])
    .option(
      "--map <piece>",
      "memory a raw image holds: START-END@OFFSET, repeatable; or state.json, or a layout: pc, q35, microvm, firecracker",
      collect,
      [],
    );

/** The same options as words of a shell. */
export const dumpWordsOf = ({ part, map }: DumpFlags): string[] => [
  ...part.flatMap((file) => ["--part", shellWord(file)]),
  ...map.flatMap((piece) => ["--map", shellWord(piece)]),
];

/** Files that these options name. */
export const filesOfDump = ({ part, map }: DumpFlags): string[] => [
  ...part,
  ...map.filter((text) => isDescription(text)),
];

/** @throws UsageError for a map that is none */
export const dumpNamingOf = ({ part, map }: DumpFlags): DumpNaming => ({
  parts: part,
  ...(map.length === 0 ? {} : { map: parseRamMap(map) }),
});

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

const root = process.env.GUESTCORE_DATA ?? join(import.meta.dirname, "../../../shared/data");

/** A folder of the artefacts of real crashed VMs. */
export const triageData = (...names: string[]): string => join(root, "triage", ...names);

/** Why there are none here. */
export const whyNoTriageData = (): string | undefined =>
  existsSync(triageData()) ? undefined : `no ${triageData()}`;

/** Names and contents of the files in a folder; none where it is not there. */
export const filesIn = (folder: string): { readonly name: string; readonly bytes: Buffer }[] =>
  existsSync(folder)
    ? readdirSync(folder)
        .sort()
        .filter((name) => statSync(join(folder, name)).isFile())
        .map((name) => ({ name, bytes: readFileSync(join(folder, name)) }))
    : [];

import { IoError, UnsupportedError } from "../core/errors.ts";
import { type FileIdentity, identitiesOf } from "../io/file.ts";
import { readHead } from "../io/head.ts";
import { textOf } from "../triage/console/encoding.ts";
import { isOwnReport } from "./log-shapes.ts";

/** Those of the files that are there and are reports of guestcore's own: a new one may take their place. */
export async function ownReports(paths: readonly string[]): Promise<readonly FileIdentity[]> {
  const found: FileIdentity[] = [];
  for (const path of paths) {
    const [identity] = identitiesOf([path]);
    if (identity !== undefined && (await isOwn(path))) found.push(identity);
  }
  return found;
}

async function isOwn(path: string): Promise<boolean> {
  try {
    const { bytes, compression } = await readHead(path);
    return compression === undefined && isOwnReport(textOf(bytes));
  } catch (error) {
    // What is no file, or cannot be read, is none; whoever writes it says what is wrong.
    if (error instanceof IoError || error instanceof UnsupportedError) return false;
    throw error;
  }
}

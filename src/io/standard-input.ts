import { fstatSync } from "node:fs";
import type { JobContext } from "../core/job.ts";
import { attempt, FileSource, sizeOf } from "./file.ts";
import { readStream, STANDARD_INPUT } from "./stream.ts";
import { TemporaryFile, type TemporaryOptions } from "./temporary.ts";

const NAME = "standard input";
const FD = 0;
/** A copy for tools that read by name: standard input can be read once. */
const SAVED = { name: "saved.dump", command: "cat > saved.dump" };

/**
 * Standard input for reading at random: the file that it is redirected from, else all of it in a temporary file.
 * @throws IoError when it cannot be read or there is no room; UnsupportedError when it is neither file nor pipe
 */
export async function openStandardInput(
  temporary: TemporaryOptions,
  { progress, checkpoint }: Pick<JobContext, "checkpoint" | "progress">,
): Promise<FileSource> {
  const stat = attempt(`cannot stat ${NAME}`, () => fstatSync(FD));
  const size = sizeOf(NAME, FD, stat);
  if (size !== undefined) return new FileSource(NAME, FD, size, SAVED);
  const copy = TemporaryFile.create(temporary, 0);
  progress.start(0, `saving ${NAME} in ${copy.directory}`);
  try {
    for await (const chunk of readStream(STANDARD_INPUT, NAME, checkpoint)) {
      copy.append(chunk, 0, chunk.length);
      progress.update(copy.size);
      await checkpoint();
    }
    return copy.finish(NAME, SAVED);
  } catch (error) {
    copy.close();
    throw error;
  } finally {
    progress.finish();
  }
}

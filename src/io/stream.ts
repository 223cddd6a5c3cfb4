import { closeSync, constants, createReadStream, fstatSync, openSync, statSync } from "node:fs";
import { Socket } from "node:net";
import type { Readable } from "node:stream";
import { isatty, ReadStream } from "node:tty";
import { UnsupportedError } from "../core/errors.ts";
import { attempt } from "./file.ts";

/** What a command takes for the name of standard input. */
export const STANDARD_INPUT = "-";
const STANDARD_INPUT_FD = 0;

/** Opening a FIFO must not wait for a writer, where no signal would be heard. */
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK;
/** A signal is heard within so many milliseconds though nothing comes. */
const CHECK_INTERVAL = 100;

/** Whether a name means what can only be read from its beginning to its end: standard input, a FIFO, a terminal. */
export function isStream(path: string): boolean {
  if (path === STANDARD_INPUT) return true;
  const stat = attempt(`cannot stat ${path}`, () => statSync(path, { throwIfNoEntry: false }), {
    file: path,
  });
  return stat?.isFIFO() === true || stat?.isCharacterDevice() === true;
}

/**
 * Reads a stream to its end.
 * @param name what it is called in messages
 * @param checkpoint called while nothing comes; what it throws ends the reading
 * @param isOver whether to wait no more, which ends it as well
 * @throws IoError when it cannot be read; UnsupportedError when it is neither a file, a pipe nor a terminal
 */
export async function* readStream(
  path: string,
  name: string,
  checkpoint: () => Promise<void>,
  isOver: () => boolean = () => false,
): AsyncGenerator<Buffer> {
  const stream = openStream(path, name);
  const timer = setInterval(() => {
    if (isOver()) stream.destroy();
    else checkpoint().catch((error: Error) => stream.destroy(error));
  }, CHECK_INTERVAL);
  try {
    for await (const chunk of stream) yield chunk as Buffer;
  } catch (error) {
    if (isOver()) return;
    attempt(
      `cannot read ${name}`,
      () => {
        throw error;
      },
      { file: name },
    );
  } finally {
    clearInterval(timer);
    stream.destroy();
  }
}

function openStream(path: string, name: string): Readable {
  if (path === STANDARD_INPUT) return streamOf(STANDARD_INPUT_FD, name);
  const fd = attempt(`cannot open ${name}`, () => openSync(path, OPEN_FLAGS), { file: name });
  try {
    return streamOf(fd, name);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Not of node:fs where reading may wait: its thread that waits would keep the process from ending. */
function streamOf(fd: number, name: string): Readable {
  const stat = attempt(`cannot stat ${name}`, () => fstatSync(fd), { file: name });
  if (stat.isFIFO() || stat.isSocket()) return new Socket({ fd, readable: true, writable: false });
  if (isatty(fd)) return new ReadStream(fd);
  if (stat.isFile()) return createReadStream("", { fd });
  throw new UnsupportedError("neither a file, a pipe nor a terminal", { where: { file: name } });
}

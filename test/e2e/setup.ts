import type { TestProject } from "vitest/node";
import { buildLab, type Lab } from "./lab.ts";

declare module "vitest" {
  interface ProvidedContext {
    lab: Lab;
  }
}

/** Builds the laboratory before any test file is read, so that there is one test per core. */
export async function setup(project: TestProject): Promise<void> {
  project.provide("lab", await buildLab((line) => process.stderr.write(`lab: ${line}\n`)));
}

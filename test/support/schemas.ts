import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";

/** Every schema of the project, by the name of its file. */
export function schemas(): Ajv2020 {
  const folder = join(import.meta.dirname, "../../schema");
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  for (const name of readdirSync(folder)) ajv.addSchema(JSON.parse(readFileSync(join(folder, name), "utf8")));
  return ajv;
}

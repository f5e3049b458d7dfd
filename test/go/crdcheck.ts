import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseJson, stringifyJson } from '#api/sequence.ts';
import { exec } from '../lab/exec.ts';
import { goProgram } from './program.ts';

/** What an API server would say is wrong. No `detail` without words: it is what `kubectl` prints after the value. */
export interface ServerProblem {
  /** `FieldValueInvalid`, `FieldValueRequired`, ... */
  readonly type: string;
  /** `spec.ingress[0].protocol`; empty for the whole object. */
  readonly field: string;
  readonly detail: string;
}

/** An object to judge; `old` makes it an update. `definition` is `<plural>.<group>`. */
export interface ServerQuestion {
  readonly definition: string;
  readonly object: object;
  readonly old?: object;
}

/** What an API server would do with an object; none of `problems`: it would store `object`. */
export interface ServerVerdict {
  readonly problems: readonly ServerProblem[];
  /** Paths of fields that the definition doesn't know and that are dropped; `kubectl` refuses an object that has some. */
  readonly unknown: readonly string[];
  readonly object: Readonly<Record<string, unknown>>;
}

/** What an API server would do with definitions (YAML) and with objects of theirs. */
export interface ServerAnswer {
  /** In the order of the definitions; none: the definition is taken. */
  readonly definitions: readonly (readonly ServerProblem[])[];
  readonly objects: readonly ServerVerdict[];
}

/**
 * Has the API server's own code judge definitions and objects: structural schemas, pruning, defaults, list types, CEL with its limits on cost.
 * Throws when the program can't be built, or when an object names a definition that is not valid.
 */
export async function askServer(
  definitions: readonly string[],
  objects: readonly ServerQuestion[],
): Promise<ServerAnswer> {
  const { status, stdout, stderr } = await exec(await program(), [], {
    input: stringifyJson({ definitions, objects }),
  });
  if (status !== 0) throw new Error(`crdcheck: status ${status}: ${stderr.trim()}`);
  return parseJson(stdout) as ServerAnswer;
}

/** The program's path; built on first use. */
export function program(): Promise<string> {
  const dir = fileURLToPath(new URL('crdcheck/', import.meta.url));
  const version = readdirSync(dir)
    .sort()
    .map((file) => `${file}\n${readFileSync(join(dir, file), 'utf8')}`)
    .join('\n');
  return goProgram({ name: 'crdcheck', version, dir, target: '.' });
}

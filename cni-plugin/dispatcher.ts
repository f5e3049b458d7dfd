import { cmdAdd } from './add.ts';
import { cmdCheck } from './check.ts';
import { makeCall, type Call } from './call.ts';
import { decodeStdin, parseConf, type ParsedConf } from './conf.ts';
import { cmdDel } from './del.ts';
import type { CniAnswer, CniDeps, CniRequest } from './deps.ts';
import { readEnvironment, verbOf, type CniVerb } from './environment.ts';
import { cniCode, CniError, renderError, toCniError } from './errors.ts';
import { cmdGc } from './gc.ts';
import { renderResult } from './result.ts';
import { cmdStatus } from './status.ts';
import { atLeast, CNI_VERSIONS, LATEST_CNI_VERSION, type CniVersion } from './versions.ts';

/** The version of the specification that brought a verb. */
const since: Partial<Record<CniVerb, CniVersion>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' };

/**
 * One call of the CNI executable. Never rejects; the answer is empty or a JSON object, and with exit status 1 it is the specification's error
 * with the caller's cniVersion.
 */
export async function runCni(request: CniRequest, deps: CniDeps): Promise<CniAnswer> {
  const verb = request.env['CNI_COMMAND'] ?? '';
  const started = performance.now();
  const fields = () => ({
    container: request.env['CNI_CONTAINERID'],
    ifname: request.env['CNI_IFNAME'],
    args: request.env['CNI_ARGS'],
    ms: Math.round((performance.now() - started) * 100) / 100,
  });
  try {
    const stdout = await dispatch(request, deps);
    deps.log('debug', `CNI ${verb} done`, fields());
    return { exitCode: 0, stdout };
  } catch (thrown) {
    const error = toCniError(thrown);
    deps.log('error', `CNI ${verb} failed: ${error.message}`, {
      ...fields(),
      code: error.code,
      details: error.details,
    });
    // A stack is for our log, not for a pod's events.
    return refusal(request, error.code === cniCode.internal ? new CniError(error.code, error.message) : error);
  }
}

/** The answer to a call that failed with `error`. */
export function refusal(request: CniRequest, error: CniError): CniAnswer {
  return { exitCode: 1, stdout: `${renderError(error, versionFor(request.stdin))}\n` };
}

async function dispatch(request: CniRequest, deps: CniDeps): Promise<string> {
  const verb = verbOf(request.env);
  if (verb === 'VERSION') return versionAnswer(request.stdin);
  // The environment first, as a runtime that gets it wrong may have no conf either.
  const environment = verb === 'GC' || verb === 'STATUS' ? undefined : readEnvironment(verb, request.env);
  const parsed = parseConf(decodeStdin(request.stdin));
  const version = parsed.conf.cniVersion;
  const first = since[verb];
  if (first !== undefined && !atLeast(version, first)) {
    throw new CniError(cniCode.incompatibleVersion, `cniVersion ${version} has no ${verb}: it came with ${first}`);
  }
  if (environment === undefined) return await networkVerb(verb, request, deps, parsed, version);

  using _node = await deps.locks.shareNode();
  // First by attachment: a DEL without CNI_ARGS knows its workload only when an ADD under way has recorded it.
  const { containerId, ifname } = environment;
  using _attachment = await deps.locks.acquire(`${parsed.conf.name}/${containerId}/${ifname}`);
  const call = makeCall(deps, request, parsed, environment);
  using _workload = await deps.locks.acquire(`${call.identity.namespace}/${call.identity.name}`);
  switch (verb) {
    case 'ADD':
      logConf(deps, call);
      return `${renderResult(await cmdAdd(deps, call), version)}\n`;
    case 'DEL':
      await cmdDel(deps, call);
      return '';
    default:
      await cmdCheck(deps, call);
      return '';
  }
}

/** The verbs that concern a network as a whole. */
async function networkVerb(
  verb: CniVerb,
  request: CniRequest,
  deps: CniDeps,
  parsed: ParsedConf,
  version: CniVersion,
): Promise<string> {
  if (verb === 'GC') {
    using _ = await deps.locks.takeNode();
    await cmdGc(deps, request, parsed);
    return '';
  }
  const { warnings } = await cmdStatus(deps, request, parsed);
  return warnings.length === 0 ? '' : `${JSON.stringify({ cniVersion: version, warnings })}\n`;
}

/** What we speak, under the version that the caller named (spec, "VERSION"). */
function versionAnswer(stdin: string): string {
  decodeStdin(stdin);
  return `${JSON.stringify({ cniVersion: versionFor(stdin), supportedVersions: CNI_VERSIONS })}\n`;
}

/** The cniVersion that an answer carries: the caller's words if they can be a version, else our newest. */
function versionFor(stdin: string): string {
  try {
    const { cniVersion } = decodeStdin(stdin);
    return typeof cniVersion === 'string' && /^\d{1,4}(\.\d{1,4}){2}$/.test(cniVersion)
      ? cniVersion
      : LATEST_CNI_VERSION;
  } catch {
    return LATEST_CNI_VERSION; // What is wrong with it is the error that is being answered.
  }
}

function logConf(deps: CniDeps, { conf: { unknownKeys, keysWithoutEffect, conf } }: Call): void {
  if (unknownKeys.length > 0 || keysWithoutEffect.length > 0) {
    deps.log('info', 'keys of the network configuration that change nothing', {
      network: conf.name,
      unknownKeys,
      keysWithoutEffect,
    });
  }
}

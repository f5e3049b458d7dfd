import { delegatedIpam, type ParsedConf } from './conf.ts';
import { DelegatedIpam } from './delegate-ipam.ts';
import type { CniDeps, CniRequest } from './deps.ts';
import { cniCode, CniError } from './errors.ts';

/** What STATUS has to say although it is a success; the specification gives it no field, so it stands beside cniVersion. */
export interface StatusReport {
  readonly warnings: readonly string[];
}

/** STATUS: could an ADD succeed now? Throws code 50 with the reason if not. Running containers are not concerned (that would be 51). */
export async function cmdStatus(deps: CniDeps, request: CniRequest, parsed: ParsedConf): Promise<StatusReport> {
  const reason = await deps.notReadyReason();
  if (reason !== undefined) throw new CniError(cniCode.unavailable, `this node can't wire pods at present: ${reason}`);
  const type = delegatedIpam(parsed.conf);
  if (type === undefined) {
    const ipamReason = deps.ipam.unavailableReason();
    if (ipamReason !== undefined)
      throw new CniError(cniCode.unavailable, `no address can be given at present: ${ipamReason}`);
  } else {
    await new DelegatedIpam(deps, type, parsed, request.env).run('STATUS');
  }
  return { warnings: deps.standalone ? ['standalone: there is no agent, and network policy is not enforced'] : [] };
}

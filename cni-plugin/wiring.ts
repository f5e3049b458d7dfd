import type { Netlink, NetlinkOp, OpResult, SysctlResult } from '#native/types.ts';
import { cniCode, CniError, errorText } from './errors.ts';
import { parseAlias } from './names.ts';
import type { Namespaces } from './namespaces.ts';
import type { UndoStack } from './undo.ts';
import { isV6, type WiringPlan } from './wiring-plan.ts';

/** What the executor needs of the node. */
export interface WiringPort {
  readonly host: Netlink;
  readonly namespaces: Namespaces;
}

/**
 * Does what the plan says. Requests are sent synchronously: together they take about a millisecond, less than the hops to a worker
 * thread and back. Only the deletion of a link, which waits for the kernel's grace periods, goes to a worker.
 *
 * What is to be taken back if it throws, or if a later step of the caller's fails, is pushed on `undo`. `beforeUp` is done when the node's device is
 * there and down.
 */
export async function wire(
  port: WiringPort,
  plan: WiringPlan,
  undo: UndoStack,
  beforeUp?: () => Promise<void>,
): Promise<void> {
  using pod = openPod(port.namespaces, plan);
  await addVeth(port, plan);
  undo.push(`device ${plan.spec.hostDevice}`, () => removeOwnLink(port, plan.spec.hostDevice, plan.spec.alias));
  checkSysctls(port.namespaces.writeHostSysctls(plan.hostSysctls), `device ${plan.spec.hostDevice}`);
  await beforeUp?.();
  await checkHostOps(port.host, plan, port.host.batchSync(plan.hostOps));
  checkOps(plan.podOps, pod.batchSync(plan.podOps), `the pod's ${plan.spec.ifname}`);
}

/** Deletes the host link if it has this alias; any other one is a newer sandbox's, or not ours. */
export async function removeOwnLink({ host, namespaces }: WiringPort, device: string, alias: string): Promise<void> {
  const link = host.link(device);
  if (link?.alias === alias) await namespaces.removeHostLink(link.index);
}

function openPod(namespaces: Namespaces, { spec, podSysctls }: WiringPlan): Netlink {
  let opened: ReturnType<Namespaces['open']>;
  try {
    opened = namespaces.open(spec.netnsPath, podSysctls);
  } catch (error) {
    throw new CniError(
      cniCode.unknownContainer,
      `can't enter the container's network namespace ${spec.netns}: ${errorText(error)}`,
      {
        cause: error,
      },
    );
  }
  try {
    checkSysctls(opened.sysctls, `network namespace ${spec.netns}`);
    return opened.netlink;
  } catch (error) {
    opened.netlink[Symbol.dispose]();
    throw error;
  }
}

/** Tries first and looks afterwards: nearly always nothing is in the way. */
async function addVeth({ host, namespaces }: WiringPort, { spec, veth }: WiringPlan): Promise<void> {
  for (let isRetry = false; ; isRetry = true) {
    const [result] = host.batchSync([veth]);
    if (result === undefined || result.ok) return;
    if (result.error.code !== 'EEXIST' || isRetry) throw vethRefused(spec.hostDevice, result.error);
    const present = host.link(spec.hostDevice);
    if (present === undefined) {
      throw new CniError(
        cniCode.wiring,
        `the container's network namespace ${spec.netns} has an interface ${spec.ifname} already, which we have not made: ${result.error.message}`,
        { cause: result.error },
      );
    }
    if (parseAlias(present.alias) === undefined) {
      throw new CniError(
        cniCode.wiring,
        `the node has a device ${spec.hostDevice} already, which is not ours (its alias is ${JSON.stringify(present.alias ?? '')}): remove it and try again`,
        { cause: result.error },
      );
    }
    if (!spec.replacesOthers && present.alias !== spec.alias) {
      throw new CniError(
        cniCode.tryAgain,
        `the node's device ${spec.hostDevice} belongs to another container (${present.alias ?? ''})`,
        {
          cause: result.error,
        },
      );
    }
    // Of an earlier sandbox of this pod, or of an ADD that was cut short.
    await namespaces.removeHostLink(present.index);
  }
}

function vethRefused(device: string, error: Error): CniError {
  return new CniError(cniCode.wiring, `can't make device ${device}: ${error.message}`, { cause: error });
}

async function checkHostOps(host: Netlink, { spec, hostOps }: WiringPlan, results: readonly OpResult[]): Promise<void> {
  for (const [index, op] of hostOps.entries()) {
    const result = results[index];
    if (result?.ok === false && result.error.code === 'EEXIST' && op.op === 'route.add') {
      throw await routeConflict(host, op.dst, spec.hostDevice, result.error);
    }
  }
  checkOps(hostOps, results, `device ${spec.hostDevice}`);
}

async function routeConflict(host: Netlink, dst: string, device: string, error: Error): Promise<CniError> {
  const routes = await host.routes({ family: isV6(dst) ? 6 : 4 });
  const others = routes
    .filter((route) => route.dst === dst)
    .map(({ linkIndex, type }) =>
      linkIndex === undefined ? `a ${type} route` : `device ${host.link(linkIndex)?.name ?? linkIndex}`,
    );
  return new CniError(
    cniCode.wiring,
    `can't route ${dst} to device ${device}: the node routes it to ${others.join(' and ') || 'something else'} already`,
    { cause: error },
  );
}

function checkOps(ops: readonly NetlinkOp[], results: readonly OpResult[], where: string): void {
  for (const index of ops.keys()) {
    const result = results[index];
    if (result?.ok === false)
      throw new CniError(cniCode.wiring, `can't set up ${where}: ${result.error.message}`, { cause: result.error });
  }
}

function checkSysctls(results: readonly SysctlResult[], where: string): void {
  for (const result of results) {
    if (result.status !== 'failed') continue;
    throw new CniError(cniCode.wiring, `can't set sysctl ${result.path} for ${where}: ${result.error.message}`, {
      cause: result.error,
    });
  }
}

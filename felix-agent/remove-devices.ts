import type { Link, Netlink } from '#native/types.ts';

/** Deletes devices of the node. All are tried; throws the first refusal. One that is gone in between is what was wanted. */
export async function removeDevices(host: Netlink, devices: readonly Link[]): Promise<void> {
  const results = await host.batch(devices.map(({ index }) => ({ op: 'link.del', link: index })));
  const failed = results.find((result) => !result.ok && result.error.code !== 'ENODEV');
  if (failed?.ok === false) throw failed.error;
}

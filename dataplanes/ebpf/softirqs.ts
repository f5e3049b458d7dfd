import { readFileSync } from 'node:fs';
import { release, version } from 'node:os';
import { gunzipSync } from 'node:zlib';

/** What a kernel says of itself, as far as its softirqs depend on it. */
export interface KernelIdentity {
  /** `uname -r`, such as `6.18.2-rt1-amd64`. */
  readonly release: string;
  /** `uname -v`, such as `#1 SMP PREEMPT_RT Debian 6.18.2-1 (2026-01-05)`. */
  readonly version: string;
  /** What is in /sys/kernel/realtime; undefined: most kernels have none. */
  readonly realtime: string | undefined;
  /** What it was built with, if that is told; read only where it matters. */
  readonly config: () => KernelConfig | undefined;
}

/** Its `.config`. */
export interface KernelConfig {
  readonly path: string;
  readonly text: string;
}

/** The first Linux that can be built so that on PREEMPT_RT softirqs of a CPU don't wait for each other. */
const firstPreemptible = [6, 18] as const;
const option = 'CONFIG_PREEMPT_RT_NEEDS_BH_LOCK';

/**
 * Why our programs can't be used on this kernel, if it may let one packet of a CPU interrupt the work on another: they keep what they know of a packet in
 * maps per CPU, so one would be judged by what is known of the other. That is PREEMPT_RT without CONFIG_PREEMPT_RT_NEEDS_BH_LOCK (kernel/softirq.c),
 * which is the default since Linux 6.18; where it can't be told, too. undefined: one packet after the other.
 */
export function softirqRefusal({
  release: name,
  version: build,
  realtime,
  config: readConfig,
}: KernelIdentity): string | undefined {
  const isRealtime = /\bPREEMPT_RT\b/.test(build) || realtime?.trim() === '1';
  if (!isRealtime) return undefined;
  const what =
    'on this PREEMPT_RT kernel one packet may interrupt the work on another on the same CPU, and be judged in its place';
  const config = readConfig();
  if (config !== undefined && new RegExp(`^${option}=y$`, 'm').test(config.text)) return undefined;
  if (config?.text.includes(`# ${option} is not set`) === true) return `${what}: ${config.path} has ${option} not set`;
  // Before, the lock was always there; who took the choice over from a newer kernel has it among his options.
  if (isBefore(name)) return undefined;
  return config === undefined
    ? `${what}, unless it was built with ${option}, and none of its configurations can be read (${configPaths(name).join(', ')})`
    : `${what}: ${config.path} does not have ${option}`;
}

function isBefore(name: string): boolean {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(name) ?? [];
  if (major === undefined || minor === undefined) return false;
  const [firstMajor, firstMinor] = firstPreemptible;
  return Number(major) < firstMajor || (Number(major) === firstMajor && Number(minor) < firstMinor);
}

/** The kernel that we run on. `root`: where its files are, for tests. */
export function runningKernel(root = ''): KernelIdentity {
  const name = release();
  return {
    release: name,
    version: version(),
    realtime: tryToRead(`${root}/sys/kernel/realtime`)?.toString(),
    config: () => {
      for (const path of configPaths(name)) {
        const bytes = tryToRead(root + path);
        if (bytes !== undefined) return { path, text: (path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString() };
      }
      return undefined;
    },
  };
}

/** The kernel itself, then where distributions put it, then the same for who is in a container with the host's process numbers. */
function configPaths(name: string): readonly string[] {
  const files = [`/boot/config-${name}`, `/lib/modules/${name}/config`];
  return ['/proc/config.gz', ...files, ...files.map((path) => `/proc/1/root${path}`)];
}

/** undefined: it isn't there, or we may not read it, which comes to the same. */
function tryToRead(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

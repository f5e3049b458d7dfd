/**
 * The versions of the CNI specification that we speak, oldest first. The only place they are written: the launcher's list is
 * generated from it, because VERSION must be answered without an agent.
 */
export const CNI_VERSIONS = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;

export type CniVersion = (typeof CNI_VERSIONS)[number];

/** The newest: what an error or VERSION answer carries when the caller's version is unknown. */
export const LATEST_CNI_VERSION: CniVersion = '1.1.0';

export function isCniVersion(text: unknown): text is CniVersion {
  return (CNI_VERSIONS as readonly unknown[]).includes(text);
}

/** True if `version` is `wanted` or newer. */
export function atLeast(version: CniVersion, wanted: CniVersion): boolean {
  return CNI_VERSIONS.indexOf(version) >= CNI_VERSIONS.indexOf(wanted);
}

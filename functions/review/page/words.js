// @ts-check
// Names, numbers and times as a person reads them.

import { clean } from './dom.js';

/** @param {string} answer */
export const label = (answer) => answer[0].toUpperCase() + answer.slice(1).replaceAll('_', ' ');

/** @param {string} text */
export const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

/** @param {number} count @param {string} noun */
export const plural = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`;

/** @param {{ driver: string, order?: string, key: string }} photo */
export const title = ({ driver, order, key }) =>
  clean([driver || (key.split('/').at(-1) ?? ''), order].filter(Boolean).join(' · '));

/** Why the model is not sure of a photo, where it says more than that. @type {Record<string, string>} */
export const REASONS = {
  NO_VEHICLE: 'The model finds no vehicle.',
  SEVERAL_VEHICLES: 'The model finds vehicles of several kinds.',
  TOO_SMALL: 'The vehicle is small in the photo.',
};

/** @param {number} share */
export function percent(share) {
  if (share > 0 && share < 0.01) return '< 1 %';
  if (share > 0.99 && share < 1) return '> 99 %';
  return `${Math.round(100 * share)} %`;
}

/** @param {string} since */
export function ago(since) {
  const minutes = Math.floor((Date.now() - new Date(since).getTime()) / 60_000);
  if (minutes < 1) return 'less than a minute';
  if (minutes < 60) return plural(minutes, 'minute');
  if (minutes < 2880) return plural(Math.floor(minutes / 60), 'hour');
  return plural(Math.floor(minutes / 1440), 'day');
}

/** @param {string} at */
export const clock = (at) => new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });

// Puts the page into the document.

import { mount } from 'svelte';
import App from './App.svelte';
import './style.css';
import 'uplot/dist/uPlot.min.css';

mount(App, { target: document.body });

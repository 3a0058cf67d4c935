"""The look of every report: one style sheet, and the few lines of script that sort tables.

Series colours are those of Okabe and Ito (2008), "Color Universal Design", which people
with any common colour blindness can tell apart; lightened for the dark scheme. The first
is the accent.
"""

from __future__ import annotations

__all__ = ["SCRIPT", "STYLE"]

_COLOURS = """
:root{color-scheme:light dark;--paper:#fff;--card:#f7f8fa;--ink:#1c2330;--soft:#5b6575;--line:#e3e6ec;--grid:#e9ebf0;
--on:#fff;--accent:#0072b2;--wash:#e6f1f8;--good:#00795a;--good-wash:#e3f4ee;--warn:#9a5b00;--warn-wash:#fdf1dd;--bad:#b83a00;--bad-wash:#fdebe3;
--c1:#0072b2;--c2:#d55e00;--c3:#009e73;--c4:#cc79a7;--c5:#e69f00;--c6:#56b4e9;--c7:#7a5195;--c8:#8a8f99}
@media (prefers-color-scheme:dark){:root{--paper:#12161d;--card:#1a202a;--ink:#e4e8ef;--soft:#9aa5b5;--line:#2b3340;--grid:#262e3a;
--on:#0d1420;--accent:#5db3ea;--wash:#16293a;--good:#4cc9a0;--good-wash:#13302a;--warn:#f0b429;--warn-wash:#33290f;--bad:#ff8a5c;--bad-wash:#3a2018;
--c1:#5db3ea;--c2:#ff8a4c;--c3:#3fcb9f;--c4:#e59ac4;--c5:#f0b429;--c6:#9bd6f7;--c7:#b794e0;--c8:#98a2b0}}
"""

_TEXT = """
*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main,header,footer{max-width:1080px;margin:0 auto;padding:0 24px}
header{padding-top:40px}h1{font-size:28px;line-height:1.2;letter-spacing:-.015em;margin:0 0 6px;overflow-wrap:anywhere}
h1 .badge{font-size:14px;vertical-align:5px;margin-left:8px;letter-spacing:0}
h2{font-size:19px;letter-spacing:-.01em;margin:0 0 4px}h3{font-size:15px;margin:20px 0 4px}
.subtitle,.note{color:var(--soft);margin:0}.note{max-width:72ch;margin-bottom:12px}p{margin:10px 0;max-width:76ch}
section{padding:28px 0 10px;border-top:1px solid var(--line);margin-top:28px;scroll-margin-top:8px}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin:18px 0 0;font-size:14px}a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
code,pre{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}pre{overflow-x:auto;background:var(--card);padding:12px;border-radius:8px}
ul{margin:10px 0;padding-left:20px;max-width:76ch}li{margin:3px 0}footer{color:var(--soft);font-size:13px;padding-top:20px;padding-bottom:36px}
"""

_BLOCKS = """
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(148px,1fr));gap:10px;margin:16px 0}
.facts div{background:var(--card);border-radius:10px;padding:11px 14px;min-width:0}.facts dt{color:var(--soft);font-size:12.5px}
.facts dd{margin:0;font-size:19px;font-weight:600;letter-spacing:-.01em;font-variant-numeric:tabular-nums;overflow-wrap:anywhere;line-height:1.35}
.facts dd small{display:block;font-size:12.5px;font-weight:400;color:var(--soft);letter-spacing:0}
.scroll{overflow-x:auto;margin:14px 0;-webkit-overflow-scrolling:touch}table{border-collapse:collapse;width:100%;font-size:14px}
caption{text-align:left;color:var(--soft);font-size:13.5px;padding:0 0 8px}
th,td{padding:6px 12px;text-align:left;border-bottom:1px solid var(--line);vertical-align:middle}th{font-weight:600;font-size:13px;color:var(--soft);white-space:nowrap;vertical-align:bottom}
thead th{border-bottom-color:var(--soft)}tbody tr:hover td{background:var(--card)}
.r{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}th:first-child,td:first-child{padding-left:2px}.c{text-align:center}td.w{min-width:22ch}
th button{all:unset;cursor:pointer;white-space:nowrap}th button:focus-visible,summary:focus-visible,a:focus-visible,.scroll:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:3px}
th button::after{content:"↕";opacity:.35;margin-left:4px;font-size:11px}th[aria-sort=ascending] button::after{content:"↑";opacity:1}th[aria-sort=descending] button::after{content:"↓";opacity:1}
.badge{display:inline-block;padding:1px 9px;border-radius:99px;font-size:12.5px;font-weight:600;white-space:nowrap;background:var(--wash);color:var(--accent)}
.badge.good{background:var(--good-wash);color:var(--good)}.badge.warn{background:var(--warn-wash);color:var(--warn)}.badge.bad{background:var(--bad-wash);color:var(--bad)}
.alert{border-left:3px solid var(--accent);background:var(--wash);padding:10px 14px;border-radius:0 8px 8px 0;margin:10px 0;max-width:90ch;overflow-wrap:anywhere}
.alert.good{border-color:var(--good);background:var(--good-wash)}.alert.warn{border-color:var(--warn);background:var(--warn-wash)}.alert.bad{border-color:var(--bad);background:var(--bad-wash)}
.alert b{display:block}details{margin:12px 0;border:1px solid var(--line);border-radius:8px;padding:0 14px}summary{cursor:pointer;padding:9px 0;font-weight:600;font-size:14px}
details[open]{padding-bottom:8px}.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,380px),1fr));gap:8px 32px;align-items:start}
"""

_CHARTS = """
figure{margin:16px 0;min-width:0}figure .scroll{margin:0}figcaption{color:var(--soft);font-size:13.5px;margin-top:4px;max-width:76ch}
svg{display:block;width:100%;height:auto;overflow:visible}svg.normal{max-width:520px}svg.roomy{max-width:680px}.whisker{stroke-width:2.4;stroke-linecap:round}svg.wide{min-width:720px}svg.spark{display:inline-block;width:110px;height:26px;vertical-align:middle}
svg text{font-size:11px;fill:var(--soft);font-family:inherit;font-variant-numeric:tabular-nums}svg .head{font-size:12.5px;font-weight:600;fill:var(--ink)}svg .ink{fill:var(--ink)}svg .on{fill:var(--on)}
svg .e{text-anchor:end}svg .m{text-anchor:middle}.grid-line{stroke:var(--grid)}.axis{stroke:var(--soft);stroke-width:1}.dash{stroke:var(--soft);stroke-dasharray:4 4;fill:none}
.limit{stroke:var(--bad);stroke-dasharray:5 4;fill:none}svg .alarm{fill:var(--bad)}.alarm-line{stroke:var(--bad);opacity:.35}.halo{stroke:var(--paper);stroke-width:1.5}
.cell{stroke:var(--paper);stroke-width:1.5}.empty{fill:var(--card)}.band{opacity:.16}.band2{opacity:.3}.area{opacity:.28}.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
"""

_SERIES = "".join(f".f{i}{{fill:var(--c{i})}}.s{i}{{stroke:var(--c{i})}}" for i in range(1, 9))

_NARROW = """
@media (max-width:560px){main,header,footer{padding-left:16px;padding-right:16px}header{padding-top:24px}h1{font-size:23px}
.facts{grid-template-columns:repeat(auto-fill,minmax(128px,1fr));gap:8px}section{margin-top:20px;padding-top:20px}td.w{min-width:30ch}}
@media print{nav,th button::after{display:none}section{break-inside:avoid}body{font-size:12px}}
"""

STYLE = (_COLOURS + _TEXT + _BLOCKS + _CHARTS + _SERIES + _NARROW).replace("\n", "")

SCRIPT = """
for(const b of document.querySelectorAll("th button"))b.onclick=()=>{
const h=b.closest("th"),t=h.closest("table"),i=[...h.parentNode.children].indexOf(h),up=h.getAttribute("aria-sort")=="descending"?1:-1;
for(const o of h.parentNode.children)o.removeAttribute("aria-sort");h.setAttribute("aria-sort",up>0?"ascending":"descending");
const v=r=>r.cells[i].dataset.v??r.cells[i].textContent,n=x=>x===""||isNaN(x)?null:+x;
const rows=[...t.tBodies[0].rows];rows.sort((p,q)=>{const a=v(p),c=v(q),x=n(a),y=n(c);
if(x!==null&&y!==null)return up*(x-y);if((x===null)!==(y===null)&&(a===""||c===""))return a===""?1:-1;return up*a.localeCompare(c)});
t.tBodies[0].append(...rows)};
"""
"""Sorts a table by the clicked column: by ``data-v`` where a cell has one, else by its text; empty cells last."""
